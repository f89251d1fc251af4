# mole_kernel_isa(TARGET FILES…): compiles each file twice, for AVX2 + FMA and for AVX-512, into TARGET.
# The sources use kernels/cpu/simd.h, whose namespace MOLE_ISA (avx2 or avx512) keeps the copies apart; a
# plain .cc beside them chooses by kernels/cpu/isa.h. Once a folder: the object libraries are named after
# it (mole_kernels_linear_avx2).
set(MOLE_FLAGS_avx2 -mavx2 -mfma -mf16c -mbmi2)
# GCC 12 calls the deliberately undefined operands in its own AVX-512 headers uninitialized.
set(MOLE_FLAGS_avx512 ${MOLE_FLAGS_avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq
  -mprefer-vector-width=512 -Wno-uninitialized -Wno-maybe-uninitialized)
set(MOLE_FLAGS_avx512bf16 ${MOLE_FLAGS_avx512} -mavx512bf16)
set(MOLE_FLAGS_amx ${MOLE_FLAGS_avx512} -mamx-tile -mamx-bf16)

function(mole_kernel_isa target)
  foreach(isa avx2 avx512)
    mole_kernel_objects(${target} ${isa} ${ARGN})
  endforeach()
endfunction()

# mole_kernel_amx(TARGET FILES…): the same, once, for AVX-512 with AMX-BF16.
function(mole_kernel_amx target)
  mole_kernel_objects(${target} amx ${ARGN})
endfunction()

function(mole_kernel_objects target isa)
  get_filename_component(op ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  set(objects ${target}_${op}_${isa})
  add_library(${objects} OBJECT ${ARGN})
  target_compile_options(${objects} PRIVATE ${MOLE_FLAGS_${isa}})
  target_link_libraries(${objects} PRIVATE mole_options mole_base)
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:${objects}>)
  # tests/kernels looks for symbols in them that the linker could merge with a plain copy.
  set_property(GLOBAL APPEND PROPERTY MOLE_ISA_OBJECTS ${objects})
endfunction()
