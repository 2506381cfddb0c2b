# Builds the messages of the folder that includes this file.
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
foreach(dependency IN LISTS DEPENDENCIES)
  find_package(${dependency} REQUIRED)
endforeach()

include(../../../cmake/wheels.cmake)
include(../../../cmake/python_messages.cmake)
generate_for_python_only()
file(GLOB messages RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} msg/*.msg)
rosidl_generate_interfaces(${PROJECT_NAME} ${messages} DEPENDENCIES ${DEPENDENCIES})
find_libraries_next_to_modules(${DEPENDENCIES})
ament_package()
