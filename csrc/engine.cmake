# The CPU engine, for the extension and for the programs that test it without Python.

function(basinvol_add_engine target)
  set(directory ${CMAKE_CURRENT_FUNCTION_LIST_DIR})
  set(warnings -Wall -Wextra $<$<BOOL:${BASINVOL_WERROR}>:-Werror>)
  target_sources(${target} PRIVATE
    ${directory}/cpu/dispatch.cpp
    ${directory}/cpu/engine.cpp
    ${directory}/cpu/executor.cpp
    ${directory}/cpu/gradient_pass.cpp
    ${directory}/cpu/losses.cpp
    ${directory}/cpu/packed_mlp.cpp
    ${directory}/cpu/point_losses.cpp
    ${directory}/cpu/program_attention.cpp
    ${directory}/cpu/program_engine.cpp
    ${directory}/cpu/program_losses.cpp
    ${directory}/cpu/program_products.cpp
    ${directory}/cpu/rows.cpp)
  target_include_directories(${target} PRIVATE ${directory})
  target_link_libraries(${target} PRIVATE OpenMP::OpenMP_CXX)
  # Contraction would let the radius search round differently from the torch reference.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${warnings} -ffp-contract=off>)

  # The arithmetic once per instruction set, in a namespace of its own; dispatch.cpp chooses at run time.
  set(isas baseline)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    list(APPEND isas v3 v4)
    set(flags_v3 -march=x86-64-v3)
    set(flags_v4 -march=x86-64-v4 -mprefer-vector-width=512)
    target_compile_definitions(${target} PRIVATE BASINVOL_X86_LEVELS)
  endif()
  foreach(isa IN LISTS isas)
    foreach(source gradient_kernels kernels normals tensor_kernels)
      set(library ${target}_${source}_${isa})
      add_library(${library} OBJECT ${directory}/cpu/${source}.cpp)
      set_target_properties(${library} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden)
      target_include_directories(${library} PRIVATE ${directory})
      target_compile_definitions(${library} PRIVATE BASINVOL_ISA=${isa})
      target_compile_options(${library} PRIVATE ${warnings} -Wno-psabi -fno-math-errno ${flags_${isa}})
      target_sources(${target} PRIVATE $<TARGET_OBJECTS:${library}>)
    endforeach()
    # The generator gives the same bits everywhere; the products may use FMA.
    # GCC 12 warns of its own header for AVX-512 products (GCC bug 105593).
    target_compile_options(${target}_normals_${isa} PRIVATE -ffp-contract=off -Wno-maybe-uninitialized)
    target_compile_options(${target}_gradient_kernels_${isa} PRIVATE -ffp-contract=fast)
    target_compile_options(${target}_kernels_${isa} PRIVATE -ffp-contract=fast)
    target_compile_options(${target}_tensor_kernels_${isa} PRIVATE -ffp-contract=fast)
  endforeach()
endfunction()

# The CUDA engine. Kernels are compiled without contraction too: they say where they multiply and add in one step.
set(BASINVOL_CUDA_DIRECTORY ${CMAKE_CURRENT_LIST_DIR}/cuda)
set(BASINVOL_CUDA_KERNELS)
foreach(kernel linear loss_head materialize persistent reduce search_step)
  list(APPEND BASINVOL_CUDA_KERNELS ${BASINVOL_CUDA_DIRECTORY}/${kernel}.cu)
endforeach()

function(basinvol_add_cuda_engine target)
  target_sources(${target} PRIVATE ${BASINVOL_CUDA_KERNELS})
  foreach(source batched device engine flight loop_graph problem runtime workspace)
    target_sources(${target} PRIVATE ${BASINVOL_CUDA_DIRECTORY}/${source}.cpp)
  endforeach()
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>
    $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false -Xcompiler=-Wall,-Wextra
      $<$<BOOL:${BASINVOL_WERROR}>:-Werror=all-warnings>>)
endfunction()
