# An Android package (AAR) of the shared runtime, from a folder that has what `cmake --install` put there, for each ABI:
#
#   cmake -DINSTALLED=installed -DOUTPUT=tvm_flow.aar -P examples/aar.cmake      installed/arm64-v8a, installed/x86_64, ...
#
# MIN_SDK and NDK, numbers, are what it was compiled with. In it:
#
#   AndroidManifest.xml
#   jni/ABI/libtvm_flow.so      goes into every app
#   prefab/                     tells an app's CMake: find_package(tvm_flow CONFIG), then tvm_flow::tvm_flow
#   LICENSE
cmake_minimum_required(VERSION 3.16)
set(MIN_SDK 21 CACHE STRING "least API level")
set(NDK 27 CACHE STRING "major version of the NDK")
if(NOT INSTALLED OR NOT OUTPUT)
  message(FATAL_ERROR "expected -DINSTALLED=FOLDER and -DOUTPUT=FILE.aar")
endif()
get_filename_component(installed "${INSTALLED}" ABSOLUTE)
get_filename_component(output "${OUTPUT}" ABSOLUTE)
set(made "${output}.made")
set(module "${made}/prefab/modules/tvm_flow")

file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/../CMakeLists.txt" project REGEX "^project\\(tvm_flow ")
string(REGEX REPLACE ".* VERSION ([0-9.]+).*" "\\1" version "${project}")
file(REMOVE_RECURSE "${made}")
file(WRITE "${made}/AndroidManifest.xml"
     "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n"
     "<manifest xmlns:android=\"http://schemas.android.com/apk/res/android\" package=\"tvm_flow.runtime\">\n"
     "  <uses-sdk android:minSdkVersion=\"${MIN_SDK}\" />\n"
     "</manifest>\n")
file(WRITE "${made}/prefab/prefab.json"
     "{\"schema_version\": 2, \"name\": \"tvm_flow\", \"version\": \"${version}\", \"dependencies\": []}\n")
file(WRITE "${module}/module.json" "{\"export_libraries\": [], \"library_name\": \"libtvm_flow\"}\n")
file(COPY "${CMAKE_CURRENT_LIST_DIR}/../LICENSE" DESTINATION "${made}")

set(abis 0)
foreach(abi arm64-v8a armeabi-v7a x86 x86_64 riscv64)
  file(GLOB library "${installed}/${abi}/lib*/libtvm_flow.so")
  if(library)
    math(EXPR abis "${abis} + 1")
    get_filename_component(library "${library}" REALPATH) # where the system has versions of a name, it is a link
    configure_file("${library}" "${made}/jni/${abi}/libtvm_flow.so" COPYONLY)
    configure_file("${library}" "${module}/libs/android.${abi}/libtvm_flow.so" COPYONLY)
    file(WRITE "${module}/libs/android.${abi}/abi.json"
         "{\"abi\": \"${abi}\", \"api\": ${MIN_SDK}, \"ndk\": ${NDK}, \"stl\": \"none\", \"static\": false}\n")
    file(COPY "${installed}/${abi}/include" DESTINATION "${module}") # the same of every ABI
  endif()
endforeach()
if(NOT abis)
  message(FATAL_ERROR "${installed}: expected ABI/lib/libtvm_flow.so, got none; build with -DBUILD_SHARED_LIBS=ON")
endif()
execute_process(COMMAND "${CMAKE_COMMAND}" -E tar cf "${output}" --format=zip --mtime=2000-01-01
                        AndroidManifest.xml LICENSE jni prefab
                WORKING_DIRECTORY "${made}" RESULT_VARIABLE failed)
file(REMOVE_RECURSE "${made}")
if(failed)
  message(FATAL_ERROR "${output}: expected an archive, got exit code ${failed}")
endif()
