# An array that keeps every line it ever saw: awk -v bytes=N -v period=SECONDS -f leak.awk
BEGIN {
    for (n = 0; ; n++) {
        seen[n] = sprintf("%" bytes "d", n)
        system("sleep " period)
    }
}
