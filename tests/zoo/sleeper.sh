# A shell that mostly sleeps.
count=0
while :; do
    count=$((count + 1))
    sleep 1
done
