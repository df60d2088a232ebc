/*
 * `cuda`: the server of command lists on a GPU (`--gpu 0`). The one program that is not static: it
 * is linked with the C library that libcuda needs, and loads libcuda and nothing else. argv: the
 * generation, the GPU's number, the library's path.
 */
#include "ipc/sandbox.h"
#include "runtime/cuda/executor.h"

#include <stdlib.h>

/* Made by `./build.sh`: what `./build.sh cuda` has compiled, or an empty table. */
extern const struct cubin cuda_cubins[];

int main(int argc, char **argv)
{
	static struct cuda_executor x;
	struct err e = {0};
	struct lists *l;

	if (argc < 4)
		return server_die(ROLE_CUDA, &(struct err){.text = "init starts this program"});
	/* every kernel before the sandbox, nothing compiled, nothing kept in files */
	setenv("CUDA_MODULE_LOADING", "EAGER", 1);
	setenv("CUDA_CACHE_DISABLE", "1", 1);
	if (cuda_executor_open(&x, argv[3], (unsigned)strtoul(argv[2], NULL, 10), cuda_cubins, &e))
		return server_die(ROLE_CUDA, &e);
	l = lists_open(&x.x, argv[1], &e);
	if (!l || server_confine(lists_server(l), SANDBOX_GPU, &e))
		return server_die(ROLE_CUDA, &e);
	lists_loop(l);
}
