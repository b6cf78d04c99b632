# TensorRT, or TensorRT for RTX, by headers and library: an unpacked release (TENSORRT_ROOT), or each
# by itself (TENSORRT_INCLUDE_DIR, TENSORRT_LIBRARY). PTAME_BACKEND says which of them. CUDA's runtime
# comes from a toolkit: CUDA_ROOT, or CUDA_RUNTIME_INCLUDE_DIR and CUDA_RUNTIME_LIBRARY.
set(names_tensorrt nvinfer)
set(names_tensorrt-rtx tensorrt_rtx)
find_path(TENSORRT_INCLUDE_DIR NvInferRuntime.h
  HINTS ${TENSORRT_ROOT} ENV TENSORRT_ROOT PATH_SUFFIXES include)
find_library(TENSORRT_LIBRARY ${names_${PTAME_BACKEND}}
  HINTS ${TENSORRT_ROOT} ENV TENSORRT_ROOT PATH_SUFFIXES lib lib64)
find_path(CUDA_RUNTIME_INCLUDE_DIR cuda_runtime_api.h
  HINTS ${CUDA_ROOT} ENV CUDA_ROOT PATHS /usr/local/cuda PATH_SUFFIXES include)
find_library(CUDA_RUNTIME_LIBRARY cudart
  HINTS ${CUDA_ROOT} ENV CUDA_ROOT PATHS /usr/local/cuda PATH_SUFFIXES lib64 lib)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TensorRT REQUIRED_VARS
  TENSORRT_LIBRARY TENSORRT_INCLUDE_DIR CUDA_RUNTIME_LIBRARY CUDA_RUNTIME_INCLUDE_DIR)
mark_as_advanced(TENSORRT_INCLUDE_DIR TENSORRT_LIBRARY CUDA_RUNTIME_INCLUDE_DIR CUDA_RUNTIME_LIBRARY)

if(TensorRT_FOUND AND NOT TARGET TensorRT::TensorRT)
  add_library(TensorRT::CudaRuntime UNKNOWN IMPORTED)
  set_target_properties(TensorRT::CudaRuntime PROPERTIES
    IMPORTED_LOCATION ${CUDA_RUNTIME_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${CUDA_RUNTIME_INCLUDE_DIR})
  add_library(TensorRT::TensorRT UNKNOWN IMPORTED)
  set_target_properties(TensorRT::TensorRT PROPERTIES
    IMPORTED_LOCATION ${TENSORRT_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${TENSORRT_INCLUDE_DIR}
    INTERFACE_LINK_LIBRARIES TensorRT::CudaRuntime)
endif()
