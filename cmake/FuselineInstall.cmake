# What `cmake --install … --component ranker` installs: the ranker as a C++ package (find_package(fuseline_ranker), target
# fuseline::ranker; component event_log: fuseline::event_log_kafka, with librdkafka) and as a C library (fuseline::ranker_c, fuseline/serving_bridge/c_ranker.h).
include_guard()
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/fuseline_ranker)

# fuseline_install(EXPORT-SET target …): the targets, known as fuseline::NAME to who finds the package.
function(fuseline_install export_set)
  foreach(target IN LISTS ARGN)
    string(REGEX REPLACE "^fuseline_" "" name ${target})
    set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  endforeach()
  install(TARGETS ${ARGN} EXPORT ${export_set} COMPONENT ranker
    LIBRARY NAMELINK_COMPONENT ranker)
  install(EXPORT ${export_set} NAMESPACE fuseline:: DESTINATION ${package_dir} COMPONENT ranker)
endfunction()

fuseline_install(fuseline_ranker_targets
  fuseline_core fuseline_proto fuseline_redis fuseline_fusion fuseline_rollout fuseline_serving_bridge fuseline_ranker_c
  fuseline_dep_threads fuseline_dep_crypto fuseline_dep_ssl fuseline_dep_spdlog fuseline_dep_prometheus fuseline_dep_httplib fuseline_dep_protobuf
  fuseline_dep_json fuseline_dep_yaml fuseline_dep_hiredis)
fuseline_install(fuseline_ranker_event_log_targets fuseline_kafka fuseline_event_log_kafka fuseline_dep_rdkafka)

foreach(room base/core proto base/redis base/kafka fusion rollout serving_bridge)
  install(DIRECTORY ${room}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT ranker)
endforeach()
install(DIRECTORY ${PROJECT_BINARY_DIR}/proto/generated/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT ranker FILES_MATCHING PATTERN "*.pb.h")

configure_package_config_file(cmake/fuseline_rankerConfig.cmake.in ${PROJECT_BINARY_DIR}/fuseline_rankerConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/fuseline_rankerConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/fuseline_rankerConfig.cmake ${PROJECT_BINARY_DIR}/fuseline_rankerConfigVersion.cmake
  DESTINATION ${package_dir} COMPONENT ranker)
