# How a target of this project is made. One function per kind; each lists its sources, none globs.
include_guard()

option(FUSELINE_WARNINGS_ARE_ERRORS "Treat warnings as errors" OFF)
set(FUSELINE_SANITIZE "" CACHE STRING "Sanitizers, as in -fsanitize=")

# Flags of our own code. Linked as a build interface, so that none leaks to a user of an installed library.
add_library(fuseline_build_flags INTERFACE)
target_compile_features(fuseline_build_flags INTERFACE cxx_std_20)
target_compile_options(fuseline_build_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wno-missing-field-initializers -fno-omit-frame-pointer
  $<$<BOOL:${FUSELINE_WARNINGS_ARE_ERRORS}>:-Werror>)
if(FUSELINE_SANITIZE)
  target_compile_options(fuseline_build_flags INTERFACE -fsanitize=${FUSELINE_SANITIZE})
  target_link_options(fuseline_build_flags INTERFACE -fsanitize=${FUSELINE_SANITIZE})
endif()
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

# fuseline_library(NAME SOURCES … [PUBLIC_DEPS …] [PRIVATE_DEPS …]): the static library of a room.
function(fuseline_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC_DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(fuseline_${name} STATIC ${ARG_SOURCES})
  add_library(fuseline::${name} ALIAS fuseline_${name})
  target_include_directories(fuseline_${name}
    PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>
    PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/src)
  target_compile_features(fuseline_${name} PUBLIC cxx_std_20)
  target_link_libraries(fuseline_${name}
    PUBLIC ${ARG_PUBLIC_DEPS}
    PRIVATE $<BUILD_INTERFACE:fuseline_build_flags> ${ARG_PRIVATE_DEPS})
endfunction()

# fuseline_app(NAME SOURCES … DEPS …): a program in bin/, with the allocator and the checksum of our programs.
function(fuseline_app name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(fuseline_app_${name} ${ARG_SOURCES})
  set_target_properties(fuseline_app_${name} PROPERTIES OUTPUT_NAME ${name})
  target_link_libraries(fuseline_app_${name} PRIVATE fuseline_build_flags fuseline::allocator fuseline::checksum ${ARG_DEPS})
endfunction()

# fuseline_test(NAME SOURCES … DEPS … LABELS … [TIMEOUT s] [ENVIRONMENT …] [SRC_OF room-folder …]): a GoogleTest program, one ctest entry.
# SRC_OF lets a room's own tests see its private headers.
function(fuseline_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;LABELS;ENVIRONMENT;SRC_OF" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE fuseline_build_flags ${ARG_DEPS} fuseline::test_support fuseline_dep::gtest_main)
  foreach(room IN LISTS ARG_SRC_OF)
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/${room}/src)
  endforeach()
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
    ENVIRONMENT "FUSELINE_SOURCE_DIR=${PROJECT_SOURCE_DIR};FUSELINE_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};${ARG_ENVIRONMENT}")
endfunction()

# fuseline_bench(NAME SOURCES … DEPS …): a Google Benchmark program, with the allocator and the checksum of our programs.
function(fuseline_bench name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE fuseline_build_flags fuseline::allocator fuseline::checksum ${ARG_DEPS} fuseline_dep::benchmark)
endfunction()

# fuseline_fuzz(NAME SOURCES … DEPS … CORPUS folder): a program that replays its corpus, which plain CI runs; an empty corpus fails. With
# FUSELINE_LIBFUZZER (clang) it fuzzes, by libFuzzer's own command line; its test then replays too.
option(FUSELINE_LIBFUZZER "Fuzz targets look for inputs of their own (clang)" OFF)
function(fuseline_fuzz name)
  cmake_parse_arguments(ARG "" "CORPUS" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE fuseline_build_flags ${ARG_DEPS})
  set(replay_only "")
  if(FUSELINE_LIBFUZZER)
    set(replay_only -runs=0)
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.cc)
  endif()
  add_test(NAME ${name} COMMAND ${name} ${replay_only} ${CMAKE_CURRENT_SOURCE_DIR}/${ARG_CORPUS})
  set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT 120)
endfunction()
