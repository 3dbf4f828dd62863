/* Hides instruction sets from a process, to see how it runs on a lesser x86 CPU (Linux, a CPU and kernel with CPUID faulting).
 *
 *     gcc -O2 -shared -fPIC -o isa_mask.so isa_mask.c
 *     ISA_MASK=avx2 LD_PRELOAD=./isa_mask.so python benchmarks/embedding.py
 *
 * avx2: no AVX-512, AVX-VNNI or AMX; avx512: AVX-512 without VNNI; vnni: no AMX. CPUID raises a signal, whose handler gives the
 * answer without those bits. Every library that asks the CPU is answered alike; /proc/cpuinfo is not. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012

static int level; /* 1: avx2, 2: avx512, 3: vnni */

static void answer(int signal_number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    if (code[0] != 0x0f || code[1] != 0xa2) { /* not CPUID: a fault of the program's own */
        signal(signal_number, SIG_DFL);
        return;
    }
    unsigned leaf = registers[REG_RAX], sub = registers[REG_RCX], a, b, c, d;
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
    __cpuid_count(leaf, sub, a, b, c, d);
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
    if (leaf == 7 && sub == 0) {
        d &= ~((1u << 22) | (1u << 24) | (1u << 25)); /* AMX_BF16, AMX_TILE, AMX_INT8 */
        if (level <= 2) c &= ~(1u << 11);             /* AVX512_VNNI */
        if (level == 1) {
            b &= ~((1u << 16) | (1u << 17) | (1u << 21) | (1u << 26) | (1u << 27) | (1u << 28) | (1u << 30) | (1u << 31));
            c &= ~((1u << 1) | (1u << 6) | (1u << 11) | (1u << 12) | (1u << 14));
            d &= ~((1u << 2) | (1u << 3) | (1u << 8) | (1u << 23)); /* 4VNNIW, 4FMAPS, VP2INTERSECT, FP16 */
        }
    }
    if (leaf == 7 && sub == 1) {
        a &= ~(1u << 21); /* AMX_FP16 */
        if (level <= 2) a &= ~(1u << 4), d &= ~((1u << 4) | (1u << 10)); /* AVX_VNNI and its INT8, INT16 */
        if (level == 1) a &= ~(1u << 5);                                /* AVX512_BF16 */
    }
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void start(void) {
    const char *wanted = getenv("ISA_MASK");
    if (!wanted) return;
    level = !strcmp(wanted, "avx2") ? 1 : !strcmp(wanted, "avx512") ? 2 : !strcmp(wanted, "vnni") ? 3 : 0;
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (!level || sigaction(SIGSEGV, &action, NULL) || syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0)) {
        fprintf(stderr, "ISA_MASK=%s: not possible here\n", wanted);
        exit(2);
    }
}
