import java.util.ArrayList;
import java.util.List;

/** Arrays kept for good, beside garbage: java Leak.java BYTES PERIOD_MS GARBAGE_BYTES */
class Leak {
    static final List<byte[]> kept = new ArrayList<>();
    static byte[] garbage;

    public static void main(String[] words) throws InterruptedException {
        int bytes = Integer.parseInt(words[0]);
        long period = Long.parseLong(words[1]);
        int rest = Integer.parseInt(words[2]);
        long start = System.nanoTime();
        while (true) {
            while (kept.size() < (System.nanoTime() - start) / 1_000_000 / period) {
                kept.add(new byte[bytes]);
            }
            garbage = new byte[rest];
            Thread.sleep(period);
        }
    }
}
