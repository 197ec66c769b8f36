# Runs inside the compile of llama.cpp: pass this file as -DCMAKE_PROJECT_llama.cpp_INCLUDE=<this file>.

# Leaves llama.cpp's "common" library out of llama-cpp-python: only its own command-line tools use it.
# llama-cpp-python forces the cache entry ON; a normal variable set right after project() shadows that (CMP0077).
# It halves the compile time.
set(LLAMA_BUILD_COMMON OFF)

# With AVX-512, ggml's dot products take 64 numbers at a time and leave what is shorter to a scalar loop
# (GGML_F16_STEP in ggml/src/ggml-cpu/simd-mappings.h). A small model's attention heads have 32 numbers, so its attention
# ran several times slower than on an older processor. These two files hold those loops; the matrix products of quantized
# weights are elsewhere and keep AVX-512.
function(hyojun_vectorize_short_heads)
  if(TARGET ggml-cpu AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT MSVC)
    get_target_property(source ggml-cpu SOURCE_DIR)
    set_source_files_properties(${source}/ggml-cpu/vec.cpp ${source}/ggml-cpu/ops.cpp
      TARGET_DIRECTORY ggml-cpu PROPERTIES COMPILE_OPTIONS -mno-avx512f)
  endif()
endfunction()
cmake_language(DEFER CALL hyojun_vectorize_short_heads)
