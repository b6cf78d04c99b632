// A GPU in the host's memory, behind the functions of CUDA's runtime that the C++ library uses.
//
// What is enqueued on a stream happens when the stream is waited for, and a device's address cannot
// be read: so a result that is taken without waiting, memory that is mistaken for the host's, and
// what is not freed are found. The environment says what the GPU is and which call shall fail.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <string>

// The host's address of a device's address.
void* double_host(const void* device);

// Do `work` when the stream is waited for, or record it.
void double_enqueue(cudaStream_t stream, std::function<void()> work);

// Whether DOUBLE_FAIL names this call.
bool double_fails(const char* call);

// Count what happened; written at the end into the file that DOUBLE_REPORT names, as JSON.
void double_count(const std::string& what, int by = 1);

// A setting of the environment.
std::string double_setting(const char* name, const char* otherwise);
