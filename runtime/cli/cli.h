/*
 * The commands of the `penstock` program: one file and one function each, listed in main.c's table.
 * argv[0] is the command's own name. A command returns main's exit status, or a negative errno with
 * its text in e.
 */
#ifndef RUNTIME_CLI_CLI_H
#define RUNTIME_CLI_CLI_H

#include "runtime/err.h"

int cmd_run(int argc, char **argv, struct err *e);
int cmd_info(int argc, char **argv, struct err *e);
int cmd_verify(int argc, char **argv, struct err *e);
int cmd_pack(int argc, char **argv, struct err *e);
int cmd_synth(int argc, char **argv, struct err *e);
int cmd_tokenize(int argc, char **argv, struct err *e);
int cmd_template(int argc, char **argv, struct err *e);
int cmd_ask(int argc, char **argv, struct err *e);
int cmd_chat(int argc, char **argv, struct err *e);
int cmd_bench(int argc, char **argv, struct err *e);
int cmd_replay(int argc, char **argv, struct err *e); /* bench --replay */
int cmd_rerun(int argc, char **argv, struct err *e);  /* replay */
int cmd_plan(int argc, char **argv, struct err *e);
int cmd_chaos(int argc, char **argv, struct err *e);
int cmd_top(int argc, char **argv, struct err *e);
int cmd_score(int argc, char **argv, struct err *e);
int cmd_image(int argc, char **argv, struct err *e);
int cmd_doctor(int argc, char **argv, struct err *e);
int cmd_settings(int argc, char **argv, struct err *e);
int cmd_relay(int argc, char **argv, struct err *e);
int cmd_node(int argc, char **argv, struct err *e);

#endif
