/*
 * What `penstock verify` does with a packed store. Used by verify.c.
 */
#ifndef RUNTIME_CLI_VERIFY_H
#define RUNTIME_CLI_VERIFY_H

#include "runtime/cli/model.h"

/* Reads and prints; 0, or status 3 where a piece is damaged. */
MUST_CHECK int verify_pack(const struct cli_model *m, bool json, struct err *e);

#endif
