/*
 * The same threads with a lock: the thread sanitizer must let them through
 * (tests/selftest/harness.t).
 */
/* tsan */
#include "tests/tap.h"

#include <pthread.h>

static int shared;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *add(void *arg)
{
	(void)arg;
	for (int i = 0; i < 1000; i++)
		pthread_mutex_lock(&lock), shared++, pthread_mutex_unlock(&lock);
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
