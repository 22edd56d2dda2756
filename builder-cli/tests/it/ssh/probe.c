/* Asks the agent at SSH_AUTH_SOCK: lists its keys, signs with the first, tries to remove them all. */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static unsigned char reply[65536];

static void all(int fd, unsigned char *to, size_t n) {
    while (n > 0) {
        ssize_t got = read(fd, to, n);
        if (got <= 0) {
            perror("no answer");
            exit(3);
        }
        to += got;
        n -= (size_t)got;
    }
}

static int ask(int fd, const unsigned char *request, uint32_t n) {
    uint32_t length = htonl(n);
    if (write(fd, &length, 4) != 4 || write(fd, request, n) != (ssize_t)n) {
        perror("write");
        exit(3);
    }
    all(fd, (unsigned char *)&length, 4);
    length = ntohl(length);
    if (length == 0 || length > sizeof reply) exit(4);
    all(fd, reply, length);
    return reply[0];
}

int main(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("SSH_AUTH_SOCK");
    if (!path) path = "";
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) {
        perror(path);
        return 2;
    }
    int type = ask(fd, (unsigned char[]){11}, 1);
    uint32_t keys, size;
    memcpy(&keys, reply + 1, 4);
    printf("list %d keys %u\n", type, ntohl(keys));
    if (ntohl(keys) == 0) return 0;
    memcpy(&size, reply + 5, 4);
    size = ntohl(size);
    static unsigned char request[65536];
    unsigned char *end = request;
    *end++ = 13;
    memcpy(end, reply + 5, 4 + size);
    end += 4 + size;
    memcpy(end, "\0\0\0\5hello\0\0\0\0", 13);
    end += 13;
    printf("sign %d\n", ask(fd, request, (uint32_t)(end - request)));
    printf("remove %d\n", ask(fd, (unsigned char[]){19}, 1));
    return 0;
}
