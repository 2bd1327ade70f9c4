#ifndef APP_NAMES_H
#define APP_NAMES_H
const char *name_of(int number);
#endif
