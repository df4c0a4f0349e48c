# Compiles the same unit again and again: each compiler grows and ends.
while :; do
    cc -O2 -c -o zoo/unit.o zoo/threads.c
    sleep 3
done
