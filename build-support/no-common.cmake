# Leaves llama.cpp's `common` library (and the HTTP library it needs) out of the build of llama-cpp-python.
# The Python binding never loads it, and it is about a third of the compile time. The binding forces the
# cache variable LLAMA_BUILD_COMMON on; a normal variable of the same name, set here, shadows it.
set(LLAMA_BUILD_COMMON OFF)
