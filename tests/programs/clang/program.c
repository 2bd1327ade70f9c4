/* Includes what there is, works on files, and prints what it finds. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/hash.h"
#include "app/names.h"

static int order(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *path) {
    char *names[128];
    int count = 0;
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (entry->d_name[0] != '.' && count < 128) names[count++] = strdup(entry->d_name);
    if (dir) closedir(dir);
    qsort(names, count, sizeof *names, order);
    printf("%s: %d entries, from %s to %s\n", path, count, count ? names[0] : "-", count ? names[count - 1] : "-");
}

int main(int argc, char **argv) {
    char path[256], line[256];
    unsigned hash = HASH_START;
    if (mkdir("/work/out", 0777)) printf("mkdir: %s\n", "refused");
    for (int i = 0; i < 100; i++) {
        snprintf(path, sizeof path, "/work/out/%s-%02d", name_of(i), i);
        FILE *file = fopen(path, "w+");
        if (!file) return 1;
        for (int n = 0; n <= i; n++) fprintf(file, "%d of %d\n", n, i);
        rewind(file);
        while (fgets(line, sizeof line, file)) hash = hash_more(hash, line);
        fclose(file);
    }
    list("/work/out");
    printf("rename: %d, again: %s\n", rename("/work/out/zero-00", "/work/out/first"),
           rename("/work/out/zero-00", "/work/out/first") ? "refused" : "done");
    printf("unlink: %d\n", unlink("/work/out/one-01"));
    printf("rmdir: %s\n", rmdir("/work/out") ? "refused" : "done");
    struct stat st;
    stat("/work/out/nine-99", &st);
    printf("size %lld, file %d, dir %d\n", (long long)st.st_size, S_ISREG(st.st_mode), S_ISDIR(st.st_mode));
    FILE *source = fopen("/work/program.c", "r");
    while (source && fgets(line, sizeof line, source)) hash = hash_more(hash, line);
    printf("hash %08x of %d arguments, %s\n", hash, argc, argc > 1 ? argv[1] : "none");
    list("/work/out");
    return 7;
}
