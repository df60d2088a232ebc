/* A data race: the harness must notice under the thread sanitizer (tests/selftest/harness.t). */
/* tsan */
#include "tests/tap.h"

#include <pthread.h>

static int shared;

static void *add(void *arg)
{
	(void)arg;
	for (int i = 0; i < 1000; i++)
		shared++;
	return NULL;
}

int main(void)
{
	pthread_t thread;

	ok(!pthread_create(&thread, NULL, add, NULL), "a thread starts");
	add(NULL);
	ok(!pthread_join(thread, NULL), "and ends");
	ok(shared > 0, "they have counted something");
	return tap_done();
}
