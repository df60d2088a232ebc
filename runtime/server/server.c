/* Common parts of the computing servers; see server.h. */
#include "runtime/server/server.h"

#include "ipc/sandbox.h"
#include "runtime/clock.h"
#include "runtime/huge.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	WHOLE_STEP = 64 << 20 /* between two looks whether it is needed */
};

_Static_assert(TEAM_AWAKE == (int)BELL_AWAKE && TEAM_ASLEEP == (int)BELL_ASLEEP,
	       "one word, two readers");

/* Map what is there of an object already, which a successor would touch page by page. */
static void make_whole(const struct server *s, enum object object, uint64_t bytes)
{
	for (uint64_t at = 0; at < bytes && attach_stands_by(&s->at); at += WHOLE_STEP)
		huge_touch(attach_at(&s->at, object, at),
			   bytes - at < WHOLE_STEP ? bytes - at : WHOLE_STEP);
}

/* Weights that are not loaded and slots that are not made are left alone: this would make them. */
static void stand_by(const struct server *s)
{
	const struct plan *p = s->at.plan;

	make_whole(s, OBJ_INDEX, p->index_bytes);
	/* acquire: as in server_wait_layer */
	if (atomic_load_explicit(&s->resident->loaded, memory_order_acquire) >=
	    s->model.index->load_bytes)
		make_whole(s, OBJ_RESIDENT, s->at.bytes[OBJ_RESIDENT]);
	/* acquire: all are there */
	if (s->at.role == ROLE_EXPERTS && p->slots &&
	    atomic_load_explicit(&s->at.node->slot_pieces, memory_order_acquire) *
			    p->slots_per_piece >=
		    p->slots)
		make_whole(s, OBJ_SLOTS, s->at.bytes[OBJ_SLOTS]);
}

int server_open(struct server *s, enum role role, const char *generation, struct err *e)
{
	const struct index *ix;
	int rc;

	memset(s, 0, sizeof(*s));
	rc = attach_open(&s->at, role, e);
	if (!rc)
		rc = attach_generation(&s->at, generation, e);
	if (rc)
		return rc;
	rc = index_open(&ix, attach_at(&s->at, OBJ_INDEX, sizeof(struct object_header)),
			s->at.bytes[OBJ_INDEX] - sizeof(struct object_header), e);
	if (rc)
		return rc;
	if (s->at.plan->isa >= CPU_ISA_COUNT || !cpu_isa_usable((enum cpu_isa)s->at.plan->isa))
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"this processor cannot run the instruction set of the plan");
	cpu_thread_init();
	cpu_kernels_init(&s->kernels, (enum cpu_isa)s->at.plan->isa);
	s->resident = attach_at(&s->at, OBJ_RESIDENT, sizeof(struct object_header));
	rc = model_attach(&s->model, ix, s->resident, ix->resident_bytes, &s->kernels, e);
	if (rc)
		return rc;
	s->bell = &s->at.bells->bell[role][0];
	rc = sandbox_files(s->at.node->sandbox_lacks, e);
	if (rc)
		return rc;
	if (attach_stands_by(&s->at))
		stand_by(s);
	/* on words of its own: the role's may still be another's */
	s->team = team_start(s->at.plan->workers, NULL, 0, e);
	return s->team ? 0 : -ENOMEM;
}

void server_take_over(struct server *s)
{
	attach_take_over(&s->at);
	s->replay = atomic_load_explicit(&s->at.log->progress.step, memory_order_relaxed);
	atomic_store_explicit(&s->at.log->progress.step, UINT64_MAX, memory_order_relaxed);
	server_waits(s, false);
	team_move(s->team, s->bell);
}

void *server_array(size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes))
		return NULL;
	return aligned_alloc(64, scratch_round(bytes + 1));
}

void server_wait_layer(const struct server *s, uint32_t layer)
{
	const struct index *ix = s->model.index;
	uint64_t want = layer == UINT32_MAX ? ix->load_bytes : index_layer(ix, layer)->ready_after;
	uint64_t loaded;

	/* acquire: pairs with the loader's release, so that the bytes are there with the count */
	while (loaded = atomic_load_explicit(&s->resident->loaded, memory_order_acquire),
	       loaded < want) {
		server_turn(s);
		server_waits(s, true);
		/* the loader wakes whoever waits for the low half of the count, read-only */
		syscall(SYS_futex, &s->resident->loaded, FUTEX_WAIT, (uint32_t)loaded, NULL, NULL,
			0);
		server_waits(s, false);
	}
}

bool server_has_layer(const struct server *s, uint32_t layer)
{
	/* acquire: as in server_wait_layer */
	return atomic_load_explicit(&s->resident->loaded, memory_order_acquire) >=
	       index_layer(s->model.index, layer)->ready_after;
}

struct ring_end server_ring(const struct server *s, enum ring_name name, uint32_t batch)
{
	const struct layout *l = &s->at.layout;
	struct ring_end r = {.capacity = RING_ENTRIES};

	switch (graph_rings[name].producer) {
	case ROLE_ROUTER:
		r.object = OBJ_ROUTER;
		r.record = l->router_record;
		r.record_size = l->router_record_size;
		break;
	case ROLE_MLA:
		r.object = OBJ_MLA;
		r.record = l->mla_record;
		r.record_size = sizeof(struct mla_record);
		break;
	case ROLE_EXPERTS:
		r.object = OBJ_EXPERTS;
		r.record = l->experts_record;
		r.record_size = sizeof(struct experts_record);
		break;
	case ROLE_CUDA:
		r.object = OBJ_CUDA;
		r.record = l->cuda_record;
		r.record_size = sizeof(struct cuda_record);
		break;
	default:
		r.object = OBJ_CLIENT;
		r.record = l->client_record;
		r.record_size = sizeof(struct client_record);
		break;
	}
	switch (name) {
	case RING_ATTEND0:
	case RING_FEED:
		r.entries = l->router_ring[name == RING_FEED];
		r.tail = name == RING_FEED ? offsetof(struct router_head, ring_tail[1])
					   : offsetof(struct router_head, ring_tail[0]);
		break;
	case RING_ROUTE:
		r.entries = l->mla_ring;
		r.tail = offsetof(struct mla_record, route_tail);
		break;
	case RING_ATTEND:
		r.entries = l->experts_ring[0];
		r.tail = offsetof(struct experts_record, attend_tail);
		break;
	case RING_FINISH:
		r.entries = l->experts_ring[1];
		r.tail = offsetof(struct experts_record, finish_tail);
		break;
	case RING_LIST:
		r.entries = l->router_ring[2];
		r.tail = offsetof(struct router_head, list_tail);
		break;
	case RING_DONE:
		r.entries = l->cuda_ring[0];
		r.tail = offsetof(struct cuda_record, done_tail);
		break;
	case RING_STORE:
		r.entries = l->cuda_ring[1];
		r.tail = offsetof(struct cuda_record, store_tail);
		break;
	case RING_MISSING:
		r.entries = l->cuda_ring[2];
		r.tail = offsetof(struct cuda_record, missing_tail);
		break;
	case RING_LOAD:
		r.entries = l->experts_ring[2];
		r.tail = offsetof(struct experts_record, load_tail);
		break;
	case RING_ANNOUNCE:
	case RING_COUNT:
		r.entries = l->client_ring;
		r.tail = offsetof(struct client_record, announce_tail);
		r.capacity = RING_ENTRIES_ANNOUNCE;
		break;
	}
	if (graph_rings[name].batched) {
		r.entries += (uint64_t)batch * RING_ENTRIES * sizeof(struct msg);
		r.tail += batch * sizeof(uint64_t);
	}
	return r;
}

/* Where the consumer of a ring keeps its head: the record, and the head's offset in it. */
static size_t head_field(const struct layout *l, enum ring_name name, enum object *object,
			 uint64_t *record, size_t *size)
{
	*object = OBJ_ROUTER;
	*record = l->router_record;
	*size = l->router_record_size;
	switch (name) {
	case RING_ROUTE:
		return offsetof(struct router_head, ring_head[0]);
	case RING_FINISH:
		return offsetof(struct router_head, ring_head[1]);
	case RING_ATTEND0:
	case RING_ATTEND:
		*object = OBJ_MLA;
		*record = l->mla_record;
		*size = sizeof(struct mla_record);
		return name == RING_ATTEND ? offsetof(struct mla_record, attend_head)
					   : offsetof(struct mla_record, attend0_head);
	case RING_DONE:
		return offsetof(struct router_head, done_head);
	case RING_STORE:
		*object = OBJ_MLA;
		*record = l->mla_record;
		*size = sizeof(struct mla_record);
		return offsetof(struct mla_record, store_head);
	case RING_LIST:
	case RING_LOAD:
		*object = OBJ_CUDA;
		*record = l->cuda_record;
		*size = sizeof(struct cuda_record);
		return name == RING_LIST ? offsetof(struct cuda_record, list_head)
					 : offsetof(struct cuda_record, load_head);
	case RING_FEED:
	case RING_MISSING:
		*object = OBJ_EXPERTS;
		*record = l->experts_record;
		*size = sizeof(struct experts_record);
		return name == RING_FEED ? offsetof(struct experts_record, feed_head)
					 : offsetof(struct experts_record, missing_head);
	default:
		return offsetof(struct router_head, ring_head[2]);
	}
}

bool server_repair_tail(const struct server *s, enum ring_name name, uint32_t batch, uint64_t *tail)
{
	struct ring_end r = server_ring(s, name, batch);
	enum object object;
	uint64_t record, head;
	size_t size, field = head_field(&s->at.layout, name, &object, &record, &size);

	field += graph_rings[name].batched ? batch * sizeof(uint64_t) : 0;
	if (!attach_read_u64(&s->at, object, record, size, field, &head) ||
	    *tail - head <= r.capacity)
		return false;
	*tail = head;
	return true;
}

static bool read_tail(const struct server *s, const struct ring_end *ring, uint64_t *tail)
{
	return attach_read_u64(&s->at, ring->object, ring->record, ring->record_size, ring->tail,
			       tail);
}

bool server_repair_head(const struct server *s, const struct ring_end *ring, uint64_t *head)
{
	uint64_t tail;

	if (!read_tail(s, ring, &tail) || tail - *head <= ring->capacity)
		return false;
	*head = tail;
	return true;
}

/* Before the tail is read: a commit in between is looked at again. */
static uint64_t version_of(const struct server *s, const struct ring_end *ring)
{
	return record_version(attach_at(&s->at, ring->object, ring->record));
}

bool server_pending(const struct server *s, const struct ring_end *ring, uint64_t head)
{
	uint64_t tail;

	if (ring->refused && ring->refused == version_of(s, ring) + 1)
		return false;
	return !read_tail(s, ring, &tail) || tail != head;
}

int server_take(const struct server *s, struct ring_end *ring, uint64_t head, enum msg_kind kind,
		uint32_t batch, struct msg *out, struct err *e)
{
	uint64_t version = version_of(s, ring), tail;
	int rc;

	if (ring->refused == version + 1)
		return 0;
	rc = read_tail(s, ring, &tail) ? ring_peek(attach_at(&s->at, ring->object, ring->entries),
						   ring->capacity, head, tail, out)
				       : -EBADMSG;
	if (rc < 0) {
		ring->refused = version + 1;
		return err_set(e, -EPROTO, "the producer's count is impossible");
	}
	if (!rc)
		return 0;
	rc = msg_check(out, kind, batch, &s->at.bounds, e);
	return rc ? rc : 1;
}

int server_pass(const struct server *s, const struct msg *m, struct pass *p, struct err *e)
{
	const struct layout *l = &s->at.layout;
	const struct plan *plan = s->at.plan;
	uint64_t pass = msg_pass(m->seq, plan->layers);
	const char *base = attach_at(&s->at, OBJ_ROUTER, l->router_area[m->batch][pass & 1]);

	memcpy(&p->area, base, sizeof(p->area));
	p->row = (const void *)(base + sizeof(struct pass_area));
	p->copy = (const void *)(base + l->area_copies[m->batch]);
	p->pages = (const void *)(base + l->area_pages[m->batch]);
	if (p->area.pass != pass || p->area.rows != m->rows ||
	    p->area.rows > plan->rows[m->batch] || p->area.kind > PASS_HEALTH ||
	    p->area.n_pages > l->page_list_max || p->area.n_copies > plan->places + 1 ||
	    p->area.first_layer > p->area.last_layer || p->area.last_layer >= plan->layers ||
	    m->layer < p->area.first_layer || m->layer > p->area.last_layer)
		return err_set(e, -EBADMSG,
			       "pass area of pass %llu, batch %u does not agree with its message",
			       (unsigned long long)pass, m->batch);
	return 0;
}

void server_sleep(const struct server *s, bool (*more)(void *), void *context, uint64_t ns)
{
	server_turn(s);
	bell_prepare(s->bell);
	if (more(context)) {
		bell_cancel(s->bell);
		return;
	}
	bell_wait(s->bell, ns);
}

uint64_t server_floor(const struct server *s, uint32_t batch)
{
	const struct layout *l = &s->at.layout;
	uint64_t floor;

	/* a record that never stands still has no floor: its tail is refused anyway */
	return attach_read_u64(&s->at, OBJ_ROUTER, l->router_record, l->router_record_size,
			       offsetof(struct router_head, floor) + batch * sizeof(uint64_t),
			       &floor)
		       ? floor
		       : 0;
}

void server_lost(const struct server *s, struct refusal *r, uint32_t batch)
{
	const struct layout *l = &s->at.layout;

	if (!attach_read_u64(&s->at, OBJ_ROUTER, l->router_record, l->router_record_size,
			     offsetof(struct router_head, batch[0].pass) +
				     batch * sizeof(struct router_batch),
			     &r->pass[batch]))
		r->pass[batch] = 0;
}

static void accuse(const struct server *s, struct refusal *r, enum role sender,
		   const uint64_t arg[5])
{
	r->sender = (uint32_t)sender;
	r->count++;
	log_write(s->at.log, s->at.generation, LOG_BAD_MESSAGE, arg);
	attach_ring(&s->at, ROLE_SCRIBE);
}

void server_refuse_record(const struct server *s, struct refusal *r, enum role producer)
{
	const uint64_t arg[5] = {producer, 0, 0, 0, 0};

	accuse(s, r, producer, arg);
}

void server_refuse(const struct server *s, struct refusal *r, const struct msg *m, uint32_t batch,
		   enum role sender)
{
	const uint64_t arg[5] = {sender, batch, m->seq, m->kind, 0};

	/*
	 * the message cannot be believed to name its pass: it is the one that router runs on this
	 * batch
	 */
	server_lost(s, r, batch);
	accuse(s, r, sender, arg);
}

void *server_twins(const struct server *s, enum role role)
{
	return s->at.bells->bell[role];
}

void server_progress(struct server *s, uint64_t seq, uint32_t batch)
{
	struct progress *p = &s->at.log->progress;
	uint64_t step = seq == UINT64_MAX ? seq : seq * 2 + batch, now = clock_now_ns();
	uint64_t before = atomic_load_explicit(&p->step, memory_order_relaxed);

	if (seq == UINT64_MAX && before != UINT64_MAX && before == s->replay) {
		uint64_t since = atomic_load_explicit(&p->since_ns, memory_order_relaxed);

		count_add(s->at.log, COUNT_REPLAYS, 1);
		count_add(s->at.log, COUNT_REPLAY_NS, now - since);
		s->replay = UINT64_MAX;
	}
	if (s->careful)
		cpu_kernels_init(&s->kernels, (enum cpu_isa)s->at.plan->isa);
	s->careful = false;
	server_row(s, UINT32_MAX);
	atomic_store_explicit(&p->since_ns, now, memory_order_relaxed);
	/*
	 * release: the time is there with the step; init reads both without a lock and only
	 * compares with a deadline
	 */
	atomic_store_explicit(&p->step, step, memory_order_release);
}

void server_resume(const struct server *s, uint64_t step, uint64_t since_ns)
{
	struct progress *p = &s->at.log->progress;

	atomic_store_explicit(&p->since_ns, since_ns, memory_order_relaxed);
	/* release: as in server_progress */
	atomic_store_explicit(&p->step, step, memory_order_release);
}

void server_turn(const struct server *s)
{
	_Atomic uint64_t *turns = &s->at.log->progress.turns;

	/* relaxed: init looks whether it moves */
	atomic_store_explicit(turns, atomic_load_explicit(turns, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

bool server_waits(const struct server *s, bool drive)
{
	_Atomic uint64_t *word = &s->at.log->progress.drive;
	bool before = atomic_load_explicit(word, memory_order_relaxed);

	atomic_store_explicit(word, drive, memory_order_relaxed);
	return before;
}

static const struct node_poison *poison_of(const struct server *s)
{
	return &s->at.node->poison[s->at.role];
}

bool server_careful(struct server *s)
{
	const struct node_poison *p = poison_of(s);

	/* relaxed: written before this process's generation came, and not again while it lives */
	if (s->careful || atomic_load_explicit(&p->deaths, memory_order_relaxed) < POISON_CAREFUL ||
	    atomic_load_explicit(&p->step, memory_order_relaxed) !=
		    atomic_load_explicit(&s->at.log->progress.step, memory_order_relaxed))
		return s->careful;
	s->careful = true;
	cpu_kernels_init(&s->kernels, CPU_SCALAR);
	return true;
}

bool server_row(const struct server *s, uint32_t row)
{
	const struct node_poison *p = poison_of(s);

	atomic_store_explicit(&s->at.log->progress.row, row == UINT32_MAX ? UINT64_MAX : row,
			      memory_order_relaxed);
	/* what is not known row by row is bad as a whole, or not at all */
	if (row >= POISON_ROWS)
		row = 0;
	return !s->careful ||
	       !(atomic_load_explicit(&p->rows[row / 64], memory_order_relaxed) >> row % 64 & 1);
}

uint64_t server_poison_error(const struct server *s, uint32_t layer)
{
	return row_error_part(CAUSE_POISON, layer, 0, (uint32_t)s->at.role, 0);
}

static void nothing(void *context, struct worker *w)
{
	(void)context;
	(void)w;
}

int server_confine(const struct server *s, unsigned who, struct err *e)
{
	/* every worker has begun: beginning takes calls that nothing needs later */
	team_run(s->team, nothing, NULL);
	return sandbox_calls(who, s->at.node->sandbox_lacks, e);
}

int server_die(enum role role, const struct err *e)
{
	fprintf(stderr, "penstock: %s: %s\n", graph_roles[role].program, e->text);
	return e->status ? e->status : STATUS_FAILED;
}

bool server_gpu_alive(const struct server *s, uint64_t generation)
{
	/* acquire: pairs with init's releases; what a dead process left is as it stays */
	return generation &&
	       atomic_load_explicit(&s->at.node->cuda_gone, memory_order_acquire) < generation &&
	       atomic_load_explicit(&s->at.node->generation[ROLE_CUDA], memory_order_acquire) ==
		       generation;
}

uint64_t server_gpu(const struct server *s)
{
	uint64_t ready;

	if (!s->at.plan->gpu ||
	    !attach_read_u64(&s->at, OBJ_CUDA, s->at.layout.cuda_record, sizeof(struct cuda_record),
			     offsetof(struct cuda_record, ready), &ready))
		return 0;
	return server_gpu_alive(s, ready) ? ready : 0;
}

uint64_t server_peer_head(const struct server *s, enum ring_name name, uint32_t batch)
{
	enum object object;
	uint64_t record, head;
	size_t size, field = head_field(&s->at.layout, name, &object, &record, &size);

	/* a record that never stands still: its consumer has taken nothing */
	return attach_read_u64(&s->at, object, record, size, field + batch * sizeof(uint64_t),
			       &head)
		       ? head
		       : 0;
}
