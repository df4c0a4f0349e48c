# Objects that refer to each other, which perl's reference counts never free: perl cycles.pl BYTES PERIOD_S
use strict;
use warnings;
use Time::HiRes qw(time sleep);

my ($bytes, $period) = @ARGV;
my $due = time;
while (1) {
    my $node = { content => "x" x $bytes };
    $node->{me} = $node;
    $due += $period;
    my $left = $due - time;
    sleep($left) if $left > 0;
}
