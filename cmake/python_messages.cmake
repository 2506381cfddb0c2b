# Changes for building messages with pip instead of colcon, where no other package links to them.

# Call before rosidl_generate_interfaces. Skips the C++ part, which takes most of the build time.
macro(generate_for_python_only)
  list(FILTER AMENT_EXTENSIONS_rosidl_generate_idl_interfaces EXCLUDE REGEX "_cpp:")
endmacro()

# Call after rosidl_generate_interfaces. Makes the Python package work with the message libraries in
# the folder of its modules. The middleware opens them by name, which finds only those on
# LD_LIBRARY_PATH and those already loaded. Therefore the module that Python imports first depends
# on them.
function(find_libraries_next_to_modules)
  get_property(targets DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
  set(siblings "")
  foreach(dependency IN LISTS ARGN)
    list(APPEND siblings "$ORIGIN/../${dependency}")
  endforeach()
  set_target_properties(${targets} PROPERTIES INSTALL_RPATH "$ORIGIN;${siblings}")
  target_link_libraries(${PROJECT_NAME}_s__rosidl_typesupport_c PRIVATE
    -Wl,--no-as-needed
    ${PROJECT_NAME}__rosidl_typesupport_fastrtps_c
    ${PROJECT_NAME}__rosidl_typesupport_introspection_c
  )
endfunction()
