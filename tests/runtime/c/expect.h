/* EXPECT ends the program where its condition does not hold, and says so, with LAST_ERROR where that is defined before. */
#ifndef EXPECT_H
#define EXPECT_H

#include <stdio.h>
#include <stdlib.h>

#ifndef LAST_ERROR
#define LAST_ERROR "none"
#endif

#define EXPECT(condition)                                                                  \
  do {                                                                                     \
    if (!(condition)) {                                                                    \
      fprintf(stderr, "line %d: %s; last error: %s\n", __LINE__, #condition, LAST_ERROR);  \
      exit(1);                                                                             \
    }                                                                                      \
  } while (0)

#endif
