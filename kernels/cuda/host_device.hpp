#pragma once
// Marks a plain function as one that host code, tests and CUDA kernels share.

#ifdef __CUDACC__
#define TESSERA_HOST_DEVICE __host__ __device__
#else
#define TESSERA_HOST_DEVICE
#endif
