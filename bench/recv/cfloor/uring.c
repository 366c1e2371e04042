// c and c-wait: what receiving costs in C with liburing, without Go's runtime. See
// doc.go for what they do. The pauses of c are those of udp/moderation.go.
#include "receiver.h"
#include <liburing.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/timerfd.h>

enum {
	BUFFERS = 16, // of c; c-wait has WAIT_BUFFERS, as its kernel fills them unasked
	WAIT_BUFFERS = 64,
	NAME = 32,
	SIZE = (sizeof(struct io_uring_recvmsg_out) + NAME + CONTROL + TRAIN + 63) / 64 * 64,
};

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

int main(int argc, char **argv) {
	struct sockaddr_in addr;
	int fd = open_socket(argc, argv, &addr);
	int wait = !strcmp(argv[1], "c-wait");
	int buffers = wait ? WAIT_BUFFERS : BUFFERS;

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
	begin(&addr);

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
	report(fd);
	return 0;
}
