#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    long sum = 0;
    for (int at = 1; at < argc; at++) sum += strtol(argv[at], NULL, 10);
    printf("%ld\n", sum);
    return 0;
}
