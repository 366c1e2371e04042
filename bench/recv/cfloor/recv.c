// The floor: what receiving costs in C with liburing, without Go's runtime.
//
//   recv c|c-wait warmup_ns duration_ns buffer flows latency
//
// It prints its port as a JSON line, reads until a line comes on standard
// input, and prints a result. See doc.go for what c and c-wait do, and
// result.go for the fields. The pauses of c are those of udp/moderation.go.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
	BUFFERS = 16, // of c; c-wait has WAIT_BUFFERS, as its kernel fills them unasked
	WAIT_BUFFERS = 64,
	NAME = 32, CONTROL = 256, TRAIN = 65535,
	SIZE = (sizeof(struct io_uring_recvmsg_out) + NAME + CONTROL + TRAIN + 63) / 64 * 64,
	POOL = 64, MTU = 1452,
	QUIET_MS = 100,
	LATENCIES = 200000, // buckets of 1 us
	MAGIC = 0x7fa11f14,
};

static volatile uint64_t count, receives, calls;
static volatile int ending;
static uint64_t reordered, foreign, *last_number;
static unsigned flows;
static char pool[POOL][MTU];
static int pool_at;
static unsigned latencies[LATENCIES + 1];
static int want_latency;

static void die(const char *what) {
	printf("{\"error\":\"%s: %s\"}\n", what, strerror(errno));
	fflush(stdout);
	exit(0);
}

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static double cpu(void) {
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

// take copies the datagrams of a train to buffers of the pool and checks them.
static int take(const char *p, size_t n, struct msghdr *control) {
	size_t segment = n;
	int datagrams = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(control); c; c = CMSG_NXTHDR(control, c))
		if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
			segment = *(int *)CMSG_DATA(c);
	receives++;
	while (n > 0) {
		size_t k = n < segment ? n : segment;
		char *d = pool[pool_at];
		pool_at = (pool_at + 1) % POOL;
		if (k <= MTU) {
			uint32_t flow, magic;
			uint64_t number;
			memcpy(d, p, k);
			memcpy(&flow, d, 4);
			memcpy(&number, d + 4, 8);
			memcpy(&magic, d + 20, 4);
			if (k < 24 || magic != MAGIC || flow >= flows)
				foreign++;
			else if (number < last_number[flow])
				reordered++;
			else
				last_number[flow] = number + 1;
			if (want_latency && datagrams == 0) {
				int64_t sent, us;
				memcpy(&sent, d + 12, 8);
				us = (now() - sent) / 1000;
				latencies[us < 0 ? 0 : us > LATENCIES ? LATENCIES : us]++;
			}
		}
		p += k;
		n -= k;
		datagrams++;
	}
	count += datagrams;
	return datagrams;
}

// The moderator of udp/moderation.go.
static struct {
	int on, strikes, good, packets;
	int64_t since, retry, backoff, length;
	long budget;
} mod;

static void mod_stop(int64_t t, int64_t wait) {
	mod.on = 0;
	mod.retry = t + wait;
	mod.since = t;
	mod.packets = 0;
}

static int64_t mod_back_off(void) {
	mod.backoff = mod.backoff ? 2 * mod.backoff : 1000000;
	if (mod.backoff > 1000000000)
		mod.backoff = 1000000000;
	return mod.backoff;
}

static int64_t mod_pause(int fd, int packets, long bytes, int64_t t) {
	const int64_t longest = 100000, shortest = 20000;
	if (!mod.on) {
		mod.packets += packets;
		if (mod.packets < 16)
			return 0;
		double expected = (double)mod.packets * longest / (t > mod.since ? t - mod.since : 1);
		mod.since = t;
		mod.packets = 0;
		if (expected < 1.6 || t < mod.retry)
			return 0;
		int room = 0;
		socklen_t len = sizeof room;
		getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, &len);
		mod.on = 1;
		mod.strikes = mod.good = 0;
		mod.length = longest;
		mod.budget = room / 8;
		return mod.length;
	}
	if (packets == 0) {
		mod_stop(t, 0);
		return 0;
	}
	if (packets == 1) {
		if (++mod.strikes >= 4) {
			mod_stop(t, mod_back_off());
			return 0;
		}
	} else {
		if (mod.strikes > 0)
			mod.strikes--;
		if (++mod.good == 32)
			mod.backoff = 0;
	}
	if (bytes > mod.budget) {
		mod.length = mod.length * (double)mod.budget / bytes;
		if (mod.length < shortest) {
			mod_stop(t, mod_back_off());
			return 0;
		}
	} else if (bytes < mod.budget / 2) {
		mod.length += mod.length / 4;
		if (mod.length > longest)
			mod.length = longest;
	}
	return mod.length;
}

// The measured interval, taken by a thread that sleeps meanwhile.
static int64_t warmup, duration;
static struct {
	double cpu, seconds;
	uint64_t datagrams, receives, calls;
} measured;

static void nap(int64_t ns) {
	struct timespec t = {ns / 1000000000, ns % 1000000000};
	nanosleep(&t, NULL);
}

static void *measure(void *unused) {
	while (!count && !ending)
		nap(1000000);
	nap(warmup);
	double c = cpu();
	int64_t t = now();
	uint64_t n = count, r = receives, k = calls;
	nap(duration);
	measured.cpu = cpu() - c;
	measured.seconds = (now() - t) / 1e9;
	measured.datagrams = count - n;
	measured.receives = receives - r;
	measured.calls = calls - k;
	return unused;
}

static void *listen_for_end(void *unused) {
	char c;
	while (read(0, &c, 1) == 1 && c != '\n')
		;
	ending = 1;
	return unused;
}

static double quantile(double q) {
	uint64_t all = 0, sum = 0;
	for (int i = 0; i <= LATENCIES; i++)
		all += latencies[i];
	for (int i = 0; i <= LATENCIES; i++)
		if ((sum += latencies[i]) >= all * q)
			return i;
	return 0;
}

int main(int argc, char **argv) {
	if (argc != 7)
		return 2;
	int wait = !strcmp(argv[1], "c-wait");
	int buffers = wait ? WAIT_BUFFERS : BUFFERS;
	warmup = atoll(argv[2]);
	duration = atoll(argv[3]);
	int rcvbuf = atoi(argv[4]), one = 1;
	flows = atoi(argv[5]);
	want_latency = atoi(argv[6]);
	last_number = calloc(flows, sizeof *last_number);

	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof addr;
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) || getsockname(fd, (struct sockaddr *)&addr, &len))
		die("socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &rcvbuf, sizeof rcvbuf))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf);
	setsockopt(fd, SOL_IP, IP_RECVTOS, &one, sizeof one);
	if (setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof one))
		die("GRO");

	struct io_uring ring;
	struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE, .cq_entries = 2 * buffers + 2};
	if (wait)
		params.flags |= IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	if ((errno = -io_uring_queue_init_params(1, &ring, &params)))
		die("io_uring_setup");
	char *memory = mmap(NULL, (size_t)buffers * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct io_uring_buf_ring *br = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)br, .ring_entries = buffers};
	if ((errno = -io_uring_register_buf_ring(&ring, &reg, 0)))
		die("register buffers");
	io_uring_buf_ring_init(br);
	for (int i = 0; i < buffers; i++)
		io_uring_buf_ring_add(br, memory + (size_t)i * SIZE, SIZE, i, buffers - 1, i);
	io_uring_buf_ring_advance(br, buffers);

	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	pthread_t thread, meter;
	pthread_create(&thread, NULL, listen_for_end, NULL);
	pthread_create(&meter, NULL, measure, NULL);
	printf("{\"port\":%d}\n", ntohs(addr.sin_port));
	fflush(stdout);

	struct msghdr msg = {.msg_namelen = NAME, .msg_controllen = CONTROL};
	int armed = 0, packets = 0;
	long bytes = 0;
	int64_t last = now();
	for (;;) {
		if (!armed) {
			struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
			io_uring_prep_recvmsg_multishot(sqe, fd, &msg, wait ? 0 : MSG_DONTWAIT);
			sqe->flags |= IOSQE_BUFFER_SELECT;
			armed = 1;
		}
		calls++;
		if (wait) {
			struct __kernel_timespec limit = {.tv_nsec = QUIET_MS * 1000000};
			struct io_uring_cqe *cqe;
			io_uring_submit_and_wait_timeout(&ring, &cqe, 1, &limit, NULL);
		} else {
			io_uring_submit(&ring);
		}
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;
		int drained = 0, came = 0;
		io_uring_for_each_cqe(&ring, head, cqe) {
			seen++;
			if (!(cqe->flags & IORING_CQE_F_MORE))
				armed = 0;
			if (!(cqe->flags & IORING_CQE_F_BUFFER)) {
				drained |= cqe->res == -EAGAIN;
				continue;
			}
			int id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
			char *buffer = memory + (size_t)id * SIZE;
			struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(buffer, cqe->res, &msg);
			if (out) {
				struct msghdr control = {.msg_control = (char *)(out + 1) + NAME, .msg_controllen = out->controllen};
				size_t n = io_uring_recvmsg_payload_length(out, cqe->res, &msg);
				take(io_uring_recvmsg_payload(out, &msg), n, &control);
				bytes += n;
				packets++;
				came++;
			}
			io_uring_buf_ring_add(br, buffer, SIZE, id, buffers - 1, 0);
			io_uring_buf_ring_advance(br, 1);
		}
		io_uring_cq_advance(&ring, seen);
		if (came && ending)
			last = now();
		if (ending && !came && now() - last > QUIET_MS * 1000000LL)
			break;
		if (wait || !drained)
			continue;
		int64_t pause = mod_pause(fd, packets, bytes, now());
		packets = bytes = 0;
		if (pause) {
			struct itimerspec spec = {.it_value.tv_nsec = pause};
			struct pollfd p = {timer, POLLIN, 0};
			timerfd_settime(timer, 0, &spec, NULL);
			poll(&p, 1, -1);
		} else {
			struct pollfd p = {fd, POLLIN, 0};
			poll(&p, 1, QUIET_MS);
		}
	}
	pthread_join(meter, NULL);

	uint32_t info[SK_MEMINFO_VARS];
	socklen_t size = sizeof info;
	getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &size);
	size = sizeof rcvbuf;
	getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, &size);
	printf("{\"received\":%lu,\"reordered\":%lu,\"foreign\":%lu,\"drops\":%u,\"measured\":%lu,\"seconds\":%.6f,"
	       "\"cpu_s\":%.6f,\"syscalls\":%lu,\"train\":%.3f,\"p50_us\":%.0f,\"p99_us\":%.0f,\"gro\":true,\"rcvbuf\":%d}\n",
	       count, reordered, foreign, info[SK_MEMINFO_DROPS], measured.datagrams, measured.seconds, measured.cpu,
	       measured.calls, measured.receives ? (double)measured.datagrams / measured.receives : 0,
	       quantile(0.5), quantile(0.99), rcvbuf);
	return 0;
}
