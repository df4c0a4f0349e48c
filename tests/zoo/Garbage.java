import java.util.LinkedHashMap;
import java.util.Map;

/** Garbage, and a cache with a limit: java Garbage.java ENTRIES BYTES PERIOD_MS */
class Garbage {
    public static void main(String[] words) throws InterruptedException {
        int entries = Integer.parseInt(words[0]);
        int bytes = Integer.parseInt(words[1]);
        long period = Long.parseLong(words[2]);
        Map<Long, byte[]> cache = new LinkedHashMap<>() {
            @Override
            protected boolean removeEldestEntry(Map.Entry<Long, byte[]> eldest) {
                return size() > entries;
            }
        };
        for (long number = 0; ; number++) {
            cache.put(number, new byte[bytes]);
            StringBuilder text = new StringBuilder();
            for (int i = 0; i < 200; i++) {
                text.append("entry ").append(number).append(',');
            }
            if (text.length() == 0) {
                return;
            }
            Thread.sleep(period);
        }
    }
}
