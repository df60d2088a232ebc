/*
 * What tests say to the stand-in for libcuda (fake.c): one object in it, found by dlsym, or in the
 * file by its first bytes, so that a copy of the file can be told beforehand what is to fail.
 */
#ifndef TESTS_CUDA_FAKE_H
#define TESTS_CUDA_FAKE_H

#include <stdint.h>

#define FAKE_MAGIC "a stand-in for libcuda: settings:"

struct fake {
	char magic[40];       /* FAKE_MAGIC */
	uint64_t memory;      /* bytes of a device */
	uint32_t devices;     /* 0: there is none */
	uint32_t fail_call;   /* which of CUDA_CALLS fails, counted from 1; 0: none */
	uint32_t fail_after;  /* after so many that did not */
	uint32_t fail_result; /* with what; once it has, everything fails: the device is lost */
	uint32_t no_register; /* 1: memory of the host cannot be registered */
	uint32_t major;       /* compute capability */
	uint32_t blocks;      /* of a multiprocessor, of which there is one */
	/* what has happened */
	uint32_t launches, copies;
	uint32_t overlapped; /* launches that ran while copies of the other stream waited */
	uint32_t wrong;      /* uses that a GPU would not forgive */
};

#endif
