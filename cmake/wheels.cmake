# Include after the last find_package. ROS 2 from PyPI: targets in the wheels name an include folder
# of the machine that built them, at which CMake stops. On an installed ROS 2 this changes nothing.
get_property(imported_targets DIRECTORY PROPERTY IMPORTED_TARGETS)
foreach(target IN LISTS imported_targets)
  get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(folders)
    list(FILTER folders EXCLUDE REGEX "^/opt/python/")
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${folders}")
  endif()
endforeach()
