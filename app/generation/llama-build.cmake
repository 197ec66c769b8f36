# Leaves llama.cpp's "common" library out of the compile of llama-cpp-python: only its own command-line tools use it.
# llama-cpp-python forces the cache entry ON; a normal variable set right after project() shadows that (CMP0077),
# so pass this file as -DCMAKE_PROJECT_llama.cpp_INCLUDE=<this file>. It halves the compile time.
set(LLAMA_BUILD_COMMON OFF)
