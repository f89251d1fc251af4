# Compiler settings of our own targets; third-party headers come as SYSTEM and stay quiet.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()

find_program(MOLE_CCACHE ccache)
if(MOLE_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${MOLE_CCACHE})
endif()

# One switch for the sanitizer presets: "address,undefined" or "thread".
set(MOLE_SANITIZE "" CACHE STRING "Sanitizers to build with")

add_library(mole_options INTERFACE)
target_compile_options(mole_options INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Wno-sign-conversion -Werror
  # No contraction behind our back: a fused multiply-add is written where it is meant (promise 1).
  -ffp-contract=off)
target_include_directories(mole_options INTERFACE ${CMAKE_SOURCE_DIR})
if(MOLE_SANITIZE)
  target_compile_options(mole_options INTERFACE -fsanitize=${MOLE_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(mole_options INTERFACE -fsanitize=${MOLE_SANITIZE})
  if(MOLE_SANITIZE MATCHES thread)
    # TSan does not model fences (gcc refuses them); Asio's queues are under mutexes anyway.
    target_compile_definitions(mole_options INTERFACE BOOST_ASIO_DISABLE_FENCED_BLOCK)
  endif()
endif()
