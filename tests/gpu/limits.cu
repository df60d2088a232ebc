/*
 * What a GPU can do, for tests/gpu/all to hold the node's figures against: bytes a second read from
 * its memory (the best of several passes over memory that no cache holds), bytes a second copied
 * from pinned memory of the host, and FP32 multiply-adds a second. One line of JSON. With the
 * CUDA Toolkit's runtime, as nvcc links it: this is no part of a node.
 */
#include <cstdint>
#include <cstdio>
#include <cstdlib>

static void need(cudaError_t e, const char *what)
{
	if (e == cudaSuccess)
		return;
	fprintf(stderr, "limits: %s: %s\n", what, cudaGetErrorString(e));
	exit(1);
}

__global__ void read_all(const uint4 *p, size_t n, uint32_t *out)
{
	uint32_t sum = 0;

	for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
		uint4 v = __ldcs(p + i);

		sum += v.x ^ v.y ^ v.z ^ v.w;
	}
	if (sum == 0x12345678)
		*out = sum;
}

enum { CHAINS = 16, STEPS = 1 << 14 };

__global__ void multiply(float *out, float a, float b)
{
	float x[CHAINS];

	for (int i = 0; i < CHAINS; i++)
		x[i] = threadIdx.x + i;
	for (int s = 0; s < STEPS; s++)
		for (int i = 0; i < CHAINS; i++)
			x[i] = __fmaf_rn(x[i], a, b);
	for (int i = 1; i < CHAINS; i++)
		x[0] += x[i];
	if (x[0] == 12345.0f)
		*out = x[0];
}

template <typename F> static double best_seconds(F run)
{
	cudaEvent_t begin, end;
	double best = 1e9;

	need(cudaEventCreate(&begin), "an event");
	need(cudaEventCreate(&end), "an event");
	for (int i = 0; i < 12; i++) {
		float ms;

		need(cudaEventRecord(begin), "an event");
		run();
		need(cudaEventRecord(end), "an event");
		need(cudaEventSynchronize(end), "a run");
		need(cudaEventElapsedTime(&ms, begin, end), "an event");
		best = ms / 1e3 < best ? ms / 1e3 : best;
	}
	return best;
}

int main()
{
	cudaDeviceProp p;
	size_t free, total, bytes, copied = 256 << 20;
	void *memory, *host, *out;

	need(cudaGetDeviceProperties(&p, 0), "the GPU");
	need(cudaMemGetInfo(&free, &total), "its memory");
	bytes = free / 2 < (8ull << 30) ? free / 2 : 8ull << 30;
	bytes &= ~(size_t)4095;
	need(cudaMalloc(&memory, bytes), "memory");
	need(cudaMalloc(&out, 256), "memory");
	need(cudaMemset(memory, 1, bytes), "memory");
	need(cudaMallocHost(&host, copied), "pinned memory");
	double read = best_seconds([&] {
		read_all<<<p.multiProcessorCount * 8, 512>>>((const uint4 *)memory, bytes / 16, (uint32_t *)out);
	});
	double copy = best_seconds([&] { cudaMemcpyAsync(memory, host, copied, cudaMemcpyHostToDevice); });
	double fma = best_seconds([&] { multiply<<<p.multiProcessorCount * 4, 512>>>((float *)out, 0.999f, 0.001f); });
	printf("{\"name\": \"%s\", \"memory\": %zu, \"free\": %zu, \"read\": %.6g, \"copy\": %.6g, \"fma\": %.6g}\n", p.name, total, free,
	       bytes / read, copied / copy, (double)p.multiProcessorCount * 4 * 512 * CHAINS * STEPS / fma);
	return 0;
}
