# A table of a fixed number of keys whose values change in length: perl hashes.pl KEYS PERIOD_S
use strict;
use warnings;
use Time::HiRes qw(sleep);

my ($keys, $period) = @ARGV;
srand 7;
my %table;
while (1) {
    $table{int rand $keys} = "y" x int rand 3000 for 1 .. 10;
    sleep $period;
}
