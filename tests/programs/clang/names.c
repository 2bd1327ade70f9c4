/* A second unit, compiled by a second guest. */
#include "app/names.h"
#include "app/../app/names.h"

const char *name_of(int number) {
    static const char *const names[] = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"};
    return names[number % 10];
}
