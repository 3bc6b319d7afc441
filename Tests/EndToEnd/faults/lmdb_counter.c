// A program that keeps its promises with LMDB, to try recorder and images on: `write DIR N JOURNAL` commits N
// transactions, each of a new key and a count, and prints after each the count and the size of the recorder's journal;
// `read DIR` prints the count, after looking at every key that it promises.
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CHECK(call)                                                  \
  do {                                                               \
    int code = (call);                                               \
    if (code) {                                                      \
      fprintf(stderr, "%s: %s\n", #call, mdb_strerror(code));        \
      exit(1);                                                       \
    }                                                                \
  } while (0)

static MDB_val value(const void *data, size_t bytes) { return (MDB_val){bytes, (void *)data}; }

int main(int count, char **arguments) {
  if (count < 3) return 64;
  int writes = strcmp(arguments[1], "write") == 0;
  MDB_env *environment;
  MDB_txn *transaction;
  MDB_dbi database;
  CHECK(mdb_env_create(&environment));
  CHECK(mdb_env_set_mapsize(environment, 64 << 20));
  CHECK(mdb_env_open(environment, arguments[2], 0, 0600));
  for (int number = 1; writes && number <= atoi(arguments[3]); number++) {
    char filler[600];
    memset(filler, number & 255, sizeof filler);
    MDB_val key = value(&number, sizeof number), filled = value(filler, sizeof filler);
    MDB_val name = value("count", 5), total = value(&number, sizeof number);
    CHECK(mdb_txn_begin(environment, NULL, 0, &transaction));
    CHECK(mdb_dbi_open(transaction, NULL, 0, &database));
    CHECK(mdb_put(transaction, database, &key, &filled, 0));
    CHECK(mdb_put(transaction, database, &name, &total, 0));
    CHECK(mdb_txn_commit(transaction));
    struct stat journal;
    if (stat(arguments[4], &journal) != 0) return 1;
    printf("%d %lld\n", number, (long long)journal.st_size);
  }
  if (!writes) {
    int total = 0;
    MDB_val name = value("count", 5), found;
    CHECK(mdb_txn_begin(environment, NULL, MDB_RDONLY, &transaction));
    CHECK(mdb_dbi_open(transaction, NULL, 0, &database));
    if (mdb_get(transaction, database, &name, &found) == 0) memcpy(&total, found.mv_data, sizeof total);
    for (int number = 1; number <= total; number++) {
      MDB_val key = value(&number, sizeof number);
      CHECK(mdb_get(transaction, database, &key, &found));
      if (found.mv_size != 600 || ((unsigned char *)found.mv_data)[599] != (number & 255)) return 2;
    }
    printf("%d\n", total);
  }
  return 0;
}
