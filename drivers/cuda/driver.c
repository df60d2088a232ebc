/* Loads libcuda; see driver.h. */
#include "drivers/cuda/driver.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

int cuda_driver_load(struct cuda_driver *d, const char *library, struct err *e)
{
	void *l = dlopen(library, RTLD_NOW | RTLD_LOCAL), *f;

	if (!l)
		return err_exit(e, STATUS_MEMORY, -ENODEV, "no driver for the GPU: %.200s",
				dlerror());
#define CUDA_LOAD(field, symbol, parameters)                                                       \
	f = dlsym(l, #symbol);                                                                     \
	if (!f)                                                                                    \
		return err_exit(e, STATUS_MEMORY, -ENODEV,                                         \
				"the driver in %.200s has no " #symbol                             \
				": 470 (CUDA 11.4) or later is needed",                            \
				library);                                                          \
	memcpy(&d->field, &f, sizeof(f));
	CUDA_CALLS(CUDA_LOAD)
#undef CUDA_LOAD
	return 0;
}

int cuda_check(const struct cuda_driver *d, int result, const char *what, struct err *e)
{
	const char *name;
	int rc = result == CU_OUT_OF_MEMORY ? -ENOMEM : result == CU_NO_DEVICE ? -ENODEV : -EIO;

	if (!result)
		return 0;
	if (d->error_name(result, &name))
		name = "an error without a name";
	return err_exit(e, rc == -EIO ? STATUS_FAILED : STATUS_MEMORY, rc, "%s: %s (%d)", what,
			name, result);
}
