/* From multiboot's 32 bits to long mode with every register of AVX-512, then to kernel.c. Built as a flat image. */
  .section .start, "ax"
  .code32
header:
  .long 0x1BADB002, 1 << 16, -(0x1BADB002 + (1 << 16)) /* the addresses that follow are to be used */
  .long header, header, image_end, memory_end, start
start:
  cli
  movl %ebx, multiboot
  movl $tables, %eax /* the first GiB at its own addresses, in pages of 2 MiB */
  leal 4096 + 7(%eax), %edx
  movl %edx, (%eax)
  leal 8192 + 7(%eax), %edx
  movl %edx, 4096(%eax)
  movl $0x83, %edx
  xorl %ecx, %ecx
1:
  movl %edx, 8192(%eax, %ecx, 8)
  addl $0x200000, %edx
  incl %ecx
  cmpl $512, %ecx
  jne 1b
  movl %eax, %cr3
  movl $(1 << 5 | 1 << 9 | 1 << 10 | 1 << 18), %eax /* PAE, SSE with its exceptions, XSAVE */
  movl %eax, %cr4
  movl $0xC0000080, %ecx /* EFER: syscall, long mode */
  rdmsr
  orl $(1 << 8 | 1), %eax
  wrmsr
  movl $0x80000033, %eax /* paging, protection, an FPU that is there */
  movl %eax, %cr0
  lgdt descriptors
  ljmp $8, $long_mode
  .code64
long_mode:
  movl $16, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  xorl %ecx, %ecx
  xorl %edx, %edx
  movl $0xE7, %eax /* x87, SSE, AVX, and the three of AVX-512 */
  xsetbv
  movl $0xC0000081, %ecx /* STAR, LSTAR, FMASK: a system call stays in ring 0 */
  movl $(16 << 16 | 8), %edx
  xorl %eax, %eax
  wrmsr
  incl %ecx
  movl $system_call, %eax
  xorl %edx, %edx
  wrmsr
  movl $0xC0000084, %ecx
  movl $0x400, %eax
  wrmsr
  movl $stack_end, %esp
  movl multiboot(%rip), %edi
  call run
system_call: /* only rax, rcx and r11 may change; the program's red zone stays as it is */
  movq %rsp, program_stack(%rip)
  movl $stack_end, %esp
  pushq %rcx
  pushq %r11
  pushq %r9
  pushq %r8
  pushq %r10
  pushq %rdx
  pushq %rsi
  pushq %rdi
  movq %rsp, %rsi
  movq %rax, %rdi
  call serve
  popq %rdi
  popq %rsi
  popq %rdx
  popq %r10
  popq %r8
  popq %r9
  popq %r11
  popq %rcx
  movq program_stack(%rip), %rsp
  jmp *%rcx
  .global enter
enter: /* (entry, stack) */
  movq %rsi, %rsp
  xorl %edx, %edx
  xorl %ebp, %ebp
  jmp *%rdi

  .data
  .align 8
segments:
  .quad 0, 0x00AF9A000000FFFF, 0x00CF92000000FFFF
descriptors:
  .word 23
  .quad segments
program_stack:
  .quad 0
multiboot:
  .long 0
  .bss
  .align 4096
tables:
  .skip 3 * 4096
  .skip 65536
stack_end:
