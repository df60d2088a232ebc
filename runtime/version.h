/*
 * The name of this build: in replies' system_fingerprint, in `penstock --version`. Changed by hand
 * with each release, so that builds are reproducible.
 */
#ifndef RUNTIME_VERSION_H
#define RUNTIME_VERSION_H

#define PENSTOCK_VERSION "0.1.0"

#endif
