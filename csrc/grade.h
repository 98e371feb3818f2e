/* How strongly a file's bytes are known to be the source's: 'A', its own digest of them matched; 'B', every answer
 * showed the pinned identity; 'C', size only. And why a file has no A.
 */
#ifndef STG_GRADE_H
#define STG_GRADE_H

enum stg_why {
    STG_WHY_NONE,          /* it has; or it was recorded by an earlier run */
    STG_WHY_UNTOLD,        /* the source announces no digest that could be compared */
    STG_WHY_PARTS,         /* only one of parts, whose boundaries are not known */
    STG_WHY_ETAG_OF_PARTS, /* only an ETag of parts, which was not asked to be compared */
    STG_WHY_ENCRYPTED,     /* only an ETag, of an object that is encrypted so that it is no digest */
    STG_WHY_UNPINNED,      /* no ETag */
    STG_WHYS,
};

/* 0: any grade will do. */
static inline int stg_grade_reaches(char grade, char required)
{
    return !required || grade <= required;
}

#endif
