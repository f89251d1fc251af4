# The functions that every folder uses. Visibility is the architecture: what a layer links PRIVATE
# can't be included from the layers above it.

# mole_layer(NAME SRCS … [DEPS …] [PRIVATE_DEPS …]): a static library mole_NAME.
function(mole_layer name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(mole_${name} STATIC ${ARG_SRCS})
  target_link_libraries(mole_${name} PUBLIC ${ARG_DEPS} PRIVATE mole_options ${ARG_PRIVATE_DEPS})
  target_include_directories(mole_${name} PUBLIC ${CMAKE_SOURCE_DIR})
endfunction()

# mole_program(NAME SRCS … DEPS …): an executable in bin/.
function(mole_program name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE mole_options ${ARG_DEPS})
endfunction()

# mole_test(NAME SRCS … DEPS … [LABELS …]): a GoogleTest program with one ctest entry. The label "fast"
# is given unless LABELS says otherwise.
function(mole_test name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS;LABELS" ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS fast)
  endif()
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE mole_options ${ARG_DEPS} GTest::gtest GTest::gmock
    GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 900)
endfunction()
