# LibTorch as one imported target, mole::torch. TorchConfig.cmake of the PyPI wheel asks for a CUDA
# toolkit even to link the CPU library, so we find the two libraries ourselves.
#
# Looked for in: MOLE_TORCH_DIR (./dev --torch DIR), CMAKE_PREFIX_PATH (a user's own LibTorch), then
# .deps/torch, where ./dev setup unpacks the wheel.
set(MOLE_TORCH_DIR "" CACHE PATH "Folder of LibTorch: holds include/ and lib/libtorch_cpu.so")
find_path(MOLE_TORCH_ROOT lib/libtorch_cpu.so
  HINTS ${MOLE_TORCH_DIR} ${CMAKE_PREFIX_PATH} ${CMAKE_SOURCE_DIR}/.deps/torch
  PATH_SUFFIXES . libtorch torch NO_CACHE)
if(NOT MOLE_TORCH_ROOT)
  message(FATAL_ERROR "LibTorch not found: run ./dev setup, or give --torch DIR")
endif()

add_library(mole_torch_headers INTERFACE)
target_include_directories(mole_torch_headers SYSTEM INTERFACE ${MOLE_TORCH_ROOT}/include
  ${MOLE_TORCH_ROOT}/include/torch/csrc/api/include)

add_library(mole::torch INTERFACE IMPORTED)
target_link_libraries(mole::torch INTERFACE mole_torch_headers ${MOLE_TORCH_ROOT}/lib/libtorch_cpu.so
  ${MOLE_TORCH_ROOT}/lib/libc10.so)
# libtorch_cpu of the CUDA wheel needs libcudart and libcupti, which lie beside it in the wheels' layout.
file(GLOB mole_torch_nvidia ${MOLE_TORCH_ROOT}/../nvidia/cu*/lib)
foreach(folder ${MOLE_TORCH_ROOT}/lib ${mole_torch_nvidia})
  target_link_options(mole::torch INTERFACE -Wl,-rpath,${folder} -Wl,-rpath-link,${folder})
endforeach()
