/* A directory of a test's own, with all that came to lie in it, removed at its end. */
#ifndef DIRECTORY_H
#define DIRECTORY_H

#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

static int directory_remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

/* 0, or -1: something is left. No symbolic link is followed. */
static inline int directory_remove(const char *path)
{
    return nftw(path, directory_remove_entry, 16, FTW_DEPTH | FTW_PHYS) ? -1 : 0;
}

#endif
