/*
 * drivers/nvme/stream.h: what is asked for arrives whole, demand goes before guesses, guesses can
 * be taken back or turn into demand, drives do not wait for each other, and a read that never ends
 * is an error after its deadline. A pipe without a writer's bytes is a drive that has stalled.
 */
/* tsan */
#include "drivers/nvme/ring.h"
#include "drivers/nvme/stream.h"
#include "runtime/clock.h"

#include "tests/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	FILE_BYTES = 6 << 20,
	SLOT = 4 << 20, /* of the slots object; one registered piece holds all */
	SLOTS = 4,
	STALLED = 1, /* the pipe's number among the files */
	FINE = 2     /* the file again, on a drive of its own */
};

static char *slots, *content;
static int pipe_fd[2];
static struct stream *s;

static void make_content(int file)
{
	content = malloc(FILE_BYTES);
	for (uint32_t i = 0; i < FILE_BYTES; i++)
		content[i] = (char)(i * 2654435761u >> 21);
	if (write(file, content, FILE_BYTES) != FILE_BYTES)
		exit(1);
}

static struct stream_job job_of(enum stream_queue queue, uint32_t file, uint64_t off,
				uint64_t bytes, unsigned slot)
{
	return (struct stream_job){.extent[0] = {.off = off,
						 .bytes = bytes,
						 .need = bytes,
						 .dest = (uint64_t)slot * SLOT,
						 .step = STREAM_PIECE,
						 .file = file},
				   .extents = 1,
				   .queue = queue};
}

static void wait_all(struct stream_job *job)
{
	while (!stream_done(job))
		stream_wait(s, job, stream_arrived(job), NS_PER_S * 30);
}

static void wait_landed(const struct stream_job *job)
{
	for (unsigned i = 0; i < 10000 && !stream_landed(job); i++)
		usleep(1000);
}

static void whole(void)
{
	struct stream_job job = job_of(STREAM_URGENT, 0, 4096, 3 << 20, 0);
	const struct stream_counts *c = stream_counts(s);
	uint64_t last = 0, now;
	bool grows = true;

	job.extents = 3;
	job.extent[1] =
		(struct stream_extent){.off = 0, .bytes = 8192, .need = 8192, .dest = 3 << 20};
	job.extent[2] = (struct stream_extent){.off = FILE_BYTES - 4096,
					       .bytes = 8192,
					       .need = 4000,
					       .dest = (3 << 20) + 8192,
					       .file = FINE};
	stream_put(s, &job);
	while (!stream_done(&job)) {
		stream_wait(s, &job, last, NS_PER_S * 30);
		now = stream_arrived(&job);
		grows = grows && now >= last &&
			!memcmp(slots, content + 4096, atomic_load(&job.arrived[0]));
		last = now;
	}
	last = stream_arrived(&job);
	is_int(job.error, 0, "a job of three extents ends without error");
	ok(stream_landed(&job), "and nothing of it is in flight");
	ok(grows && last == (3 << 20) + 8192 + 8192, "what is said to have arrived is there");
	is_mem(slots, content + 4096, 3 << 20, "the first extent is there");
	is_mem(slots + (3 << 20), content, 8192, "the second is there");
	is_mem(slots + (3 << 20) + 8192, content + FILE_BYTES - 4096, 4000,
	       "the third, which reaches beyond the end of its file, is there as far as it must");
	ok(atomic_load(&c->bytes) >= (3 << 20) + 8192 + 4096 && atomic_load(&c->busy_ns) > 0,
	   "bytes and busy time are counted");
}

static void too_short(void)
{
	struct stream_job job = job_of(STREAM_URGENT, 0, FILE_BYTES - 4096, 8192, 0);

	stream_put(s, &job);
	wait_all(&job);
	is_int(job.error, -ENODATA, "an extent that the file does not hold is an error");
	is_int((long long)job.failed_at, FILE_BYTES, "which names the byte");
}

static void stalled(void)
{
	struct stream_job stuck = job_of(STREAM_NORMAL, STALLED, 0, 4096, 0);
	struct stream_job other = job_of(STREAM_URGENT, FINE, 0, 2 << 20, 1);
	struct stream_job guess = job_of(STREAM_HINT, 0, 0, 2 << 20, 2);
	struct stream_job wrong = job_of(STREAM_HINT, 0, 0, 2 << 20, 3);
	uint64_t start, asked = 1;
	char byte[4096] = {0};

	stream_put(s, &stuck);
	stream_put(s, &guess);
	stream_put(s, &wrong);
	stream_put(s, &other);
	wait_all(&other);
	is_int(other.error, 0, "a drive goes on while another has stalled");
	is_mem(slots + SLOT, content, 2 << 20, "and what it reads is there");
	ok(!stream_done(&guess) && guess.asked[0] == 0,
	   "a guess is not asked for while demand is in flight on its drive");
	stream_promote(s, &guess, STREAM_URGENT);
	wait_all(&guess);
	is_int(guess.error, 0, "one that turns out right is read as demand");
	is_mem(slots + 2 * SLOT, content, 2 << 20, "and is there");
	ok(stream_cancel(s, &wrong, &asked) && asked == 0,
	   "one that is not begun can be taken back");
	is_int(stream_landed(&wrong) ? wrong.error : 0, -ECANCELED,
	       "one that is taken back is never asked for");
	start = clock_now_ns();
	stream_wait(s, &stuck, 0, 50 * NS_PER_MS);
	ok(clock_now_ns() - start >= 40 * NS_PER_MS, "a read has its time");
	is_int(stuck.error, -ETIMEDOUT, "then it is an error");
	ok(!stream_landed(&stuck), "but its memory is not free: the bytes may still come");
	if (write(pipe_fd[1], byte, sizeof(byte)) != sizeof(byte))
		exit(1);
	wait_landed(&stuck);
	ok(stream_landed(&stuck), "until the read has completed");
}

/* A job queued behind reads that hang ends with them, and so does one that comes later. */
static void behind(void)
{
	struct stream_job stuck[STREAM_DEPTH], late = job_of(STREAM_URGENT, STALLED, 0, 4096, 1);
	uint64_t start;
	char byte[4096] = {0};

	for (unsigned i = 0; i < STREAM_DEPTH; i++) {
		stuck[i] = job_of(STREAM_NORMAL, STALLED, 0, 4096, 0);
		stream_put(s, &stuck[i]);
	}
	stream_put(s, &late);
	stream_wait(s, &late, 0, 50 * NS_PER_MS);
	is_int(late.error, -ETIMEDOUT, "a job behind reads that hang ends by their deadline");
	ok(stream_landed(&late), "nothing of it was asked for, so its memory is free");
	start = clock_now_ns();
	late = job_of(STREAM_URGENT, STALLED, 0, 4096, 1);
	stream_put(s, &late);
	stream_wait(s, &late, 0, 100 * NS_PER_MS);
	ok(clock_now_ns() - start < NS_PER_S && late.error == -ETIMEDOUT,
	   "the next one has its deadline too");
	for (unsigned i = 0; i < STREAM_DEPTH; i++) {
		if (write(pipe_fd[1], byte, sizeof(byte)) != sizeof(byte))
			exit(1);
	}
	for (unsigned i = 0; i < STREAM_DEPTH; i++)
		wait_landed(&stuck[i]);
	ok(stream_landed(&stuck[STREAM_DEPTH - 1]), "reads that hang may end later");
}

/* The pipe's reads come short, as those of a drive may. */
static void comes_short(void)
{
	struct stream_job job = job_of(STREAM_URGENT, STALLED, 0, 8 * 4096, 0);

	stream_put(s, &job);
	for (unsigned done = 0, n = 1; done < 8; done += n, n = n == 1 ? 3 : 2) {
		n = n < 8 - done ? n : 8 - done;
		if (write(pipe_fd[1], content + done * 4096, n * 4096) != n * 4096)
			exit(1);
		usleep(2000);
	}
	wait_all(&job);
	is_int(job.error, 0, "a read that comes short is continued");
	is_mem(slots, content, 8 * 4096, "and all of it is there, in its place");
}

static void guesses(void)
{
	struct stream_job guess = job_of(STREAM_HINT, FINE, 0, 4 << 20, 0);
	const struct stream_counts *c = stream_counts(s);
	uint64_t before = atomic_load(&c->hint_bytes);

	stream_put(s, &guess);
	wait_all(&guess);
	is_mem(slots, content, 4 << 20, "a guess is read while its drive has nothing else to do");
	is_int((long long)(atomic_load(&c->hint_bytes) - before), 4 << 20, "and counted as one");
}

int main(void)
{
	char path[] = "/tmp/t_stream.XXXXXX";
	int file = mkstemp(path), memfd = memfd_create("slots", 0), files[3];
	const uint32_t drive[3] = {7, 7, 9};
	struct io_uring ring;
	struct io_uring_params params;
	struct err e = {0};
	struct iovec piece;
	int rc;

	unlink(path);
	make_content(file);
	if (pipe(pipe_fd) || ftruncate(memfd, SLOT * SLOTS))
		return 1;
	slots = mmap(NULL, SLOT * SLOTS, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	piece = (struct iovec){.iov_base = slots, .iov_len = SLOT * SLOTS};
	files[0] = files[FINE] = file;
	files[STALLED] = pipe_fd[0];
	rc = nvme_ring_create(&ring, &params, files, 3, &piece, 1, -1, &e);
	if (rc == -ENOSYS || rc == -EPERM) {
		skip("no io_uring here: %s", e.text);
		return tap_done();
	}
	is_int(rc, 0, "a ring is made (%s)", e.text);
	is_int(nvme_ring_add(ring.ring_fd, 0, &piece, &e), 0, "memory is added (%s)", e.text);
	rc = stream_open(&s, ring.ring_fd, &params, (uint64_t)(uintptr_t)slots, SLOT * SLOTS, drive,
			 3, &e);
	is_int(rc, 0, "the stream starts (%s)", e.text);
	if (!rc) {
		whole();
		too_short();
		stalled();
		behind();
		comes_short();
		guesses();
	}
	return tap_done();
}
