/*
 * Machines that one can buy or rent, for `penstock plan`; see plan.h. Memory rates are what reads
 * reach (80-85 % of the nominal rate), drives what large reads at depth reach, dots 64 operations
 * per cycle and core with BF16 dot, 32 with AVX2, at the clock of all cores.
 */
#include "runtime/cli/plan.h"
#include "runtime/options.h"

#include <errno.h>
#include <string.h>

#define GB 1e9
#define TB 1e12

const struct machine machines[] = {
	{.name = "mini-pc",
	 .about = "Ryzen 7 8845HS, 96 GB DDR5-5600, one Gen4 drive",
	 .ram = 96 * GB,
	 .memory_rate = 72 * GB,
	 .dot_rate = 2.2 * TB,
	 .drive = 6.5 * GB,
	 .cores = 8,
	 .drives = 1},
	{.name = "laptop",
	 .about = "Core Ultra 9 185H, 64 GB LPDDR5x-7467, one Gen4 drive",
	 .ram = 64 * GB,
	 .memory_rate = 95 * GB,
	 .dot_rate = 0.8 * TB,
	 .drive = 6.5 * GB,
	 .cores = 6,
	 .drives = 1},
	{.name = "strix-halo",
	 .about = "Ryzen AI Max+ 395, 128 GB LPDDR5x-8000, two Gen4 drives",
	 .ram = 128 * GB,
	 .memory_rate = 215 * GB,
	 .dot_rate = 4.4 * TB,
	 .drive = 13 * GB,
	 .cores = 16,
	 .drives = 2},
	{.name = "desktop",
	 .about = "Ryzen 9 9950X, 192 GB DDR5-5200, one Gen5 drive",
	 .ram = 192 * GB,
	 .memory_rate = 68 * GB,
	 .dot_rate = 5.1 * TB,
	 .drive = 12 * GB,
	 .cores = 16,
	 .drives = 1},
	{.name = "desktop-gpu",
	 .about = "the same with two Gen5 drives and an RTX 5090",
	 .ram = 192 * GB,
	 .memory_rate = 68 * GB,
	 .dot_rate = 5.1 * TB,
	 .drive = 24 * GB,
	 .cores = 16,
	 .drives = 2,
	 .gpu_memory = 32 * GB,
	 .gpu_rate = 1600 * GB,
	 .gpu_copy = 50 * GB,
	 .gpu_dot = 200 * TB},
	{.name = "workstation",
	 .about = "Threadripper Pro 7975WX, 256 GB DDR5-5200 x8, two Gen5 drives",
	 .ram = 256 * GB,
	 .memory_rate = 270 * GB,
	 .dot_rate = 8.2 * TB,
	 .drive = 24 * GB,
	 .cores = 32,
	 .drives = 2},
	{.name = "old-server",
	 .about = "two Xeon Gold 6248, 384 GB DDR4-2933 x12, two Gen3 drives",
	 .ram = 384 * GB,
	 .memory_rate = 210 * GB,
	 .dot_rate = 3.2 * TB,
	 .drive = 6.4 * GB,
	 .cores = 40,
	 .drives = 2},
	{.name = "epyc",
	 .about = "EPYC 9355, 384 GB DDR5-6000 x12, four Gen5 drives",
	 .ram = 384 * GB,
	 .memory_rate = 470 * GB,
	 .dot_rate = 7.8 * TB,
	 .drive = 48 * GB,
	 .cores = 32,
	 .drives = 4},
	{.name = "h200",
	 .about = "one H200, Xeon 8592+, 256 GB DDR5-5600 x8, four Gen5 drives",
	 .ram = 256 * GB,
	 .memory_rate = 290 * GB,
	 .dot_rate = 10 * TB,
	 .drive = 48 * GB,
	 .cores = 64,
	 .drives = 4,
	 .gpu_memory = 141 * GB,
	 .gpu_rate = 4300 * GB,
	 .gpu_copy = 52 * GB,
	 .gpu_dot = 800 * TB},
	{.name = "eight-drives",
	 .about = "two EPYC 9555, 768 GB DDR5-6000 x24, eight Gen5 drives",
	 .ram = 768 * GB,
	 .memory_rate = 940 * GB,
	 .dot_rate = 29 * TB,
	 .drive = 96 * GB,
	 .cores = 128,
	 .drives = 8},
};
const uint32_t n_machines = sizeof(machines) / sizeof(machines[0]);

int parse_rate(const char *text, double *out)
{
	static const char units[] = "KMGT";
	char number[32];
	size_t n = strlen(text);
	const char *unit = n ? strchr(units, text[n - 1]) : NULL;
	double v;

	if (n >= sizeof(number))
		return -EINVAL;
	memcpy(number, text, n + 1);
	if (unit)
		number[n - 1] = 0;
	if (parse_double(number, &v) || v < 0)
		return -EINVAL;
	for (long i = unit ? unit - units + 1 : 0; i > 0; i--)
		v *= 1000;
	*out = v;
	return 0;
}
