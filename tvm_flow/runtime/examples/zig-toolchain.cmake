# Cross-compiling with the C compiler that pip installs:
#
#   cmake -S . -B build -DCMAKE_TOOLCHAIN_FILE=zig-toolchain.cmake -DTRIPLE=aarch64-linux-musl
#
# PYTHON is a Python with the ziglang package; TRIPLE is zig's, such as aarch64-linux-gnu.2.28.
set(PYTHON python3 CACHE STRING "Python with the ziglang package")
set(TRIPLE aarch64-linux-musl CACHE STRING "zig's name of what to compile for")
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES PYTHON TRIPLE)
string(REGEX MATCH "^[^-]+" CMAKE_SYSTEM_PROCESSOR "${TRIPLE}")
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_C_COMPILER "${PYTHON}" -m ziglang cc -target ${TRIPLE})
