/*
 * Counts cores; see cores.h.
 */
#include "boot/cores.h"

#include "runtime/team.h"

#include <stdio.h>

uint32_t cores_count(const cpu_set_t *mask)
{
	uint32_t n = 0;

	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		char path[96];
		unsigned first = cpu;
		FILE *f;

		if (!CPU_ISSET(cpu, mask))
			continue;
		snprintf(path, sizeof(path),
			 "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu);
		f = fopen(path, "re");
		if (f && fscanf(f, "%u", &first) != 1)
			first = cpu;
		if (f)
			fclose(f);
		n += first == cpu || !CPU_ISSET(first, mask);
	}
	return n < 1 ? 1 : n > TEAM_MAX ? TEAM_MAX : n;
}
