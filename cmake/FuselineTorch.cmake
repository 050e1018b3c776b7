# LibTorch as one target, fuseline_dep::torch, without find_package(Torch): the package file of a CUDA build demands a
# CUDA toolkit even from programs that use the CPU alone.
#
# Looked for in this order, and the first that holds lib/libtorch_cpu.so is taken:
#   1. FUSELINE_TORCH_ROOT (cache variable or environment): a `torch` folder as in a wheel or a libtorch archive, or the
#      folder around it;
#   2. the folder that deploy/setup.sh fills;
#   3. the system's libtorch-dev.
# Sets FUSELINE_TORCH_FOUND, FUSELINE_TORCH_VERSION, FUSELINE_TORCH_LIBRARY_DIR, FUSELINE_TORCH_CUDA, FUSELINE_TORCH_CUDA_HEADERS.

set(FUSELINE_TORCH_PINNED_VERSION 2.11.0)  # deploy/setup.sh reads this line
set(FUSELINE_TORCH_ROOT "" CACHE PATH "LibTorch to build against; empty: what deploy/setup.sh installed, else the system's")
set(FUSELINE_CUDA_INCLUDE "" CACHE PATH "Folder of cuda_runtime_api.h; empty: looked for beside LibTorch and in /usr/local/cuda")
option(FUSELINE_WITH_CUDA "Link LibTorch's CUDA libraries too, where this LibTorch has them" OFF)

function(_fuseline_torch_candidates result)
  if(FUSELINE_TORCH_ROOT)
    set(roots "${FUSELINE_TORCH_ROOT}")
  elseif(DEFINED ENV{FUSELINE_TORCH_ROOT} AND NOT "$ENV{FUSELINE_TORCH_ROOT}" STREQUAL "")
    set(roots "$ENV{FUSELINE_TORCH_ROOT}")
  else()
    set(cache "$ENV{XDG_CACHE_HOME}")
    if(NOT cache)
      set(cache "$ENV{HOME}/.cache")
    endif()
    set(roots "${cache}/fuseline/torch-${FUSELINE_TORCH_PINNED_VERSION}")
  endif()
  set(candidates)
  foreach(root IN LISTS roots)
    list(APPEND candidates "${root}/torch" "${root}")
  endforeach()
  set(${result} "${candidates}" PARENT_SCOPE)
endfunction()

set(FUSELINE_TORCH_FOUND OFF)
set(FUSELINE_TORCH_CUDA OFF)
set(FUSELINE_TORCH_CUDA_HEADERS)  # Folders beside LibTorch's own; empty: what names CUDA cannot be compiled.
set(_torch_includes)
set(_torch_libraries)

_fuseline_torch_candidates(_torch_candidates)
foreach(_root IN LISTS _torch_candidates)
  if(EXISTS "${_root}/lib/libtorch_cpu.so" AND EXISTS "${_root}/include/torch/csrc/api/include/torch/torch.h")
    set(FUSELINE_TORCH_FOUND ON)
    set(FUSELINE_TORCH_LIBRARY_DIR "${_root}/lib")
    set(_torch_includes "${_root}/include" "${_root}/include/torch/csrc/api/include")
    set(_torch_libraries "${_root}/lib/libtorch_cpu.so" "${_root}/lib/libc10.so")
    break()
  endif()
endforeach()

if(NOT FUSELINE_TORCH_FOUND AND (FUSELINE_TORCH_ROOT OR "$ENV{FUSELINE_TORCH_ROOT}"))
  message(FATAL_ERROR "FUSELINE_TORCH_ROOT names no LibTorch: neither lib/libtorch_cpu.so nor torch/lib/libtorch_cpu.so is in it")
endif()

if(NOT FUSELINE_TORCH_FOUND)
  find_library(_torch_cpu_system torch_cpu NO_CACHE)
  find_library(_torch_c10_system c10 NO_CACHE)
  find_path(_torch_api_system torch/torch.h PATH_SUFFIXES torch/csrc/api/include NO_CACHE)
  if(_torch_cpu_system AND _torch_c10_system AND _torch_api_system)
    set(FUSELINE_TORCH_FOUND ON)
    get_filename_component(FUSELINE_TORCH_LIBRARY_DIR "${_torch_cpu_system}" DIRECTORY)
    set(_torch_includes "${_torch_api_system}")
    set(_torch_libraries "${_torch_cpu_system}" "${_torch_c10_system}")
  endif()
endif()

if(FUSELINE_TORCH_FOUND)
  add_library(fuseline_dep::torch INTERFACE IMPORTED GLOBAL)

  # 1.13 has the numbers in its API's header, later releases in one without dependencies.
  set(FUSELINE_TORCH_VERSION "unknown")
  find_file(_torch_version_header NAMES torch/headeronly/version.h torch/csrc/api/include/torch/version.h
            PATHS ${_torch_includes} NO_CACHE)
  if(_torch_version_header)
    file(STRINGS "${_torch_version_header}" _torch_numbers REGEX "^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
    string(REGEX REPLACE "[^;]* ([0-9]+)" "\\1" _torch_numbers "${_torch_numbers}")
    string(REPLACE ";" "." FUSELINE_TORCH_VERSION "${_torch_numbers}")
  endif()

  # Wheels speak the current C++ ABI from 2.7 on; an older archive says in its own package file if it does not.
  set(_torch_config "${FUSELINE_TORCH_LIBRARY_DIR}/../share/cmake/Torch/TorchConfig.cmake")
  if(EXISTS "${_torch_config}")
    file(STRINGS "${_torch_config}" _torch_abi_line REGEX "_GLIBCXX_USE_CXX11_ABI=[01]")
    if(_torch_abi_line MATCHES "_GLIBCXX_USE_CXX11_ABI=([01])")
      target_compile_definitions(fuseline_dep::torch INTERFACE "_GLIBCXX_USE_CXX11_ABI=${CMAKE_MATCH_1}")
    endif()
  endif()

  # Where the headers of LibTorch's CUDA side are, and the toolkit's that they include, it is compiled whether or not it can be linked.
  # (The wheel nvidia-cuda-runtime has half of them: without crt/ it does not compile. Triton's wheel has all.)
  find_path(_torch_cuda_graph ATen/cuda/CUDAGraph.h PATHS ${_torch_includes} NO_DEFAULT_PATH NO_CACHE)
  file(GLOB _torch_cuda_folders "${FUSELINE_TORCH_LIBRARY_DIR}/../../nvidia/cu*/include"
       "${FUSELINE_TORCH_LIBRARY_DIR}/../../triton/backends/nvidia/include")
  foreach(_folder IN LISTS FUSELINE_CUDA_INCLUDE _torch_cuda_folders ITEMS /usr/local/cuda/include)
    if(_torch_cuda_graph AND EXISTS "${_folder}/cuda_runtime_api.h" AND EXISTS "${_folder}/crt/host_defines.h")
      set(FUSELINE_TORCH_CUDA_HEADERS "${_folder}")
      break()
    endif()
  endforeach()

  if(FUSELINE_WITH_CUDA)
    if(NOT EXISTS "${FUSELINE_TORCH_LIBRARY_DIR}/libtorch_cuda.so")
      message(FATAL_ERROR "FUSELINE_WITH_CUDA=ON, but ${FUSELINE_TORCH_LIBRARY_DIR} holds no libtorch_cuda.so")
    endif()
    set(FUSELINE_TORCH_CUDA ON)
    # Nothing names a symbol of these: the CUDA backend registers itself when it is loaded, so the linker must not drop it.
    list(APPEND _torch_libraries
      -Wl,--push-state,--no-as-needed
      "${FUSELINE_TORCH_LIBRARY_DIR}/libtorch.so"
      "${FUSELINE_TORCH_LIBRARY_DIR}/libtorch_cuda.so"
      "${FUSELINE_TORCH_LIBRARY_DIR}/libc10_cuda.so"
      -Wl,--pop-state)
    file(GLOB _torch_cudart "${FUSELINE_TORCH_LIBRARY_DIR}/../../nvidia/cu*/lib/libcudart.so.*"
         "${FUSELINE_TORCH_CUDA_HEADERS}/../lib64/libcudart.so")  # What inline functions of the headers call.
    list(APPEND _torch_libraries ${_torch_cudart})
    if(NOT FUSELINE_TORCH_CUDA_HEADERS)
      message(FATAL_ERROR "FUSELINE_WITH_CUDA=ON, but no folder has cuda_runtime_api.h and crt/: name one by FUSELINE_CUDA_INCLUDE")
    endif()
    list(APPEND _torch_includes ${FUSELINE_TORCH_CUDA_HEADERS})
    target_compile_definitions(fuseline_dep::torch INTERFACE FUSELINE_TORCH_CUDA=1)
  endif()

  target_include_directories(fuseline_dep::torch SYSTEM INTERFACE ${_torch_includes})
  # libtorch_cpu.so of a CUDA wheel refers to libraries that its own run path finds; the linker need not see them.
  target_link_libraries(fuseline_dep::torch INTERFACE ${_torch_libraries} -Wl,--allow-shlib-undefined)
  message(STATUS "LibTorch ${FUSELINE_TORCH_VERSION} in ${FUSELINE_TORCH_LIBRARY_DIR} (CUDA: ${FUSELINE_TORCH_CUDA})")
endif()
