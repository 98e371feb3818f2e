/* Reads the seeds of the fuzzers, which are test data too. */
#ifndef CORPUS_H
#define CORPUS_H

#include <stdio.h>
#include <stdlib.h>

#include "stg.h"

/* CORPUS is the directory, given by the makefile. The caller frees the text. */
static struct stg_str corpus_read(const char *name)
{
    char path[512], *text = malloc(1 << 20);
    FILE *file;
    size_t len;

    snprintf(path, sizeof(path), "%s/%s", CORPUS, name);
    file = fopen(path, "rb");
    if (!file) {
        printf("%s cannot be read\n", path);
        abort();
    }
    len = fread(text, 1, 1 << 20, file);
    fclose(file);
    return (struct stg_str){text, len};
}

static void corpus_free(struct stg_str text)
{
    free((void *)(uintptr_t)text.ptr);
}

#endif
