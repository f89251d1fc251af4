# mole_kernel_isa(TARGET FILES…): compiles each file twice, for AVX2 + FMA and for AVX-512, into TARGET.
# The sources use kernels/cpu/simd.h, whose namespace MOLE_ISA (avx2 or avx512) keeps the copies apart; a
# plain .cc beside them chooses by kernels/cpu/isa.h.
set(MOLE_FLAGS_avx2 -mavx2 -mfma -mf16c -mbmi2)
set(MOLE_FLAGS_avx512 ${MOLE_FLAGS_avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512)

function(mole_kernel_isa target)
  foreach(isa avx2 avx512)
    add_library(${target}_${isa} OBJECT ${ARGN})
    target_compile_options(${target}_${isa} PRIVATE ${MOLE_FLAGS_${isa}})
    target_link_libraries(${target}_${isa} PRIVATE mole_options mole_base)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_${isa}>)
  endforeach()
endfunction()
