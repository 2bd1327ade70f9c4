#ifndef APP_HASH_H
#define APP_HASH_H
#define HASH_START 2166136261u
static unsigned hash_more(unsigned hash, const char *text) {
    while (*text) hash = (hash ^ (unsigned char)*text++) * 16777619u;
    return hash;
}
#endif
