# Short-lived generations of a usual pipeline.
while :; do
    awk 'BEGIN { srand(1); for (i = 0; i < 20000; i++) print rand(), i }' >zoo/pipeline.txt
    sort -n zoo/pipeline.txt >zoo/pipeline.sorted
    gzip -c zoo/pipeline.sorted >zoo/pipeline.gz
    sleep 4
done
