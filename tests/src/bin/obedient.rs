//! A process that does with its memory exactly what it is told, a line at a time on stdin, and answers `ok` for each.
//!
//! | Line | Does |
//! |---|---|
//! | `touch N` | writes to N fresh pages, small ones |
//! | `threads T N` | the same in each of T threads, which end |
//! | `fork N` | a child touches N pages and exits with status 0 |
//! | `vfork N` | a child in the same address space touches N fresh pages of it and becomes `true` |
//! | `exec` | becomes itself again |
//! | `mmap B`, `munmap B` | maps B anonymous bytes; unmaps as many of the mapping before |
//! | `mapfile B` | maps B bytes of its own program |
//! | `mremap OLD NEW` | maps OLD bytes and moves them to NEW, then unmaps them |
//! | `brk B` | moves the end of its heap by B, up or down; 0 asks where it is |
//! | `dontneed B` | maps B bytes, touches them, gives them back with `madvise` |
//! | `churn N` | N children begin; each touches 20 pages, lives for up to a second, and is waited for by nobody |
//! | `leak N MS` | touches N fresh pages every MS milliseconds and never answers |
//! | `refused` | a `munmap`, an `mmap` and an `madvise` that the kernel refuses |
//! | `exit C` | exits with status C |

use std::io::{BufRead as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::ptr;

const PAGE: usize = 4096;

fn main() {
    // A huge page would be one fault for up to 512 pages. To ask for small ones of each mapping after it was made is too late:
    // another thread's stack may lie below it, and be given a huge page that reaches into it.
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    let mut mapped: Vec<(*mut u8, usize)> = Vec::with_capacity(64);
    // Line by line and without read-ahead in another buffer: an exec must find the rest of stdin untouched.
    let stdin = std::io::stdin();
    let mut line = String::with_capacity(256);
    let mut stdout = std::io::stdout();
    loop {
        line.clear();
        if stdin.lock().read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace();
        let command = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse::<i64>().ok()).unwrap_or(0);
        let first = number();
        let second = number();
        obey(command, first, second, &mut mapped);
        // Answers go straight out: nothing is left in a buffer that an exec would lose.
        let _ = stdout.write_all(b"ok\n").and_then(|()| stdout.flush());
        if command == "exec" {
            let own = std::env::current_exe().unwrap_or_default();
            let error = std::process::Command::new(own).exec();
            eprintln!("exec: {error}");
        }
    }
}

fn obey(command: &str, first: i64, second: i64, mapped: &mut Vec<(*mut u8, usize)>) {
    let bytes = usize::try_from(first).unwrap_or(0);
    match command {
        "touch" => touch(bytes),
        "threads" => {
            let pages = usize::try_from(second).unwrap_or(0);
            let threads: Vec<_> = (0..first).map(|_| std::thread::spawn(move || touch(pages))).collect();
            for thread in threads {
                let _ = thread.join();
            }
        }
        "fork" => fork_and_touch(bytes),
        "vfork" => vfork_and_touch(bytes),
        "mmap" => mapped.push((map(bytes), bytes)),
        "munmap" => {
            if let Some((address, _)) = mapped.pop() {
                unmap(address, bytes);
            }
        }
        "mapfile" => map_file(bytes),
        "mremap" => remap(bytes, usize::try_from(second).unwrap_or(0)),
        // sbrk(0) answers from libc's memory and asks nobody.
        "brk" if first == 0 => {
            // SAFETY: an address below the heap is refused, and answered with the heap's end.
            unsafe { libc::syscall(libc::SYS_brk, 0) };
        }
        // By the call itself: some C libraries have an `sbrk` that moves nothing.
        "brk" => {
            // SAFETY: an address below the heap is refused, and answered with the heap's end.
            let end = unsafe { libc::syscall(libc::SYS_brk, 0) };
            // SAFETY: moves the end of the heap; what malloc has there stays below it, growth comes before shrinkage.
            unsafe { libc::syscall(libc::SYS_brk, end + first) };
        }
        "dontneed" => {
            let address = map(bytes);
            fill(address, bytes / PAGE);
            // SAFETY: a mapping of our own.
            unsafe { libc::madvise(address.cast(), bytes, libc::MADV_DONTNEED) };
        }
        "leak" => loop {
            touch(bytes);
            // SAFETY: no memory is involved.
            unsafe { libc::usleep(u32::try_from(1000 * second).unwrap_or(1_000_000)) };
        },
        "churn" => (0..first).for_each(short_life),
        "refused" => refused(),
        "exit" => std::process::exit(i32::try_from(first).unwrap_or(0)),
        _ => {}
    }
}

fn map(bytes: usize) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh mapping, of nobody's memory.
    let address =
        unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    assert_ne!(address, libc::MAP_FAILED);
    address.cast()
}

fn unmap(address: *mut u8, bytes: usize) {
    // SAFETY: a mapping of our own, used by nobody any more.
    unsafe { libc::munmap(address.cast(), bytes) };
}

fn touch(pages: usize) {
    fill(map(pages * PAGE), pages);
}

fn fill(address: *mut u8, pages: usize) {
    for page in 0..pages {
        // SAFETY: within the mapping.
        let at = unsafe { address.add(page * PAGE) };
        // SAFETY: mapped and writable.
        unsafe { at.write_volatile(1) };
    }
}

fn fork_and_touch(pages: usize) {
    // SAFETY: this process has one thread, and the child calls nothing but system calls.
    let child = unsafe { libc::fork() };
    if child == 0 {
        touch(pages);
        // Long enough for a sampling period to see it.
        // SAFETY: no memory is involved.
        unsafe { libc::usleep(300_000) };
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: `status` is ours.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
}

/// What a vfork child is given: it has its parent's memory and a stack in it.
struct Loan {
    address: *mut u8,
    pages: usize,
}

/// The kernel reaps such children itself.
fn short_life(number: i64) {
    // SAFETY: no handler is installed, children are only not kept as zombies.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    // SAFETY: as in `fork_and_touch`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        touch(20);
        let lives = 50_000 * (1 + number.unsigned_abs() % 19);
        // SAFETY: no memory is involved.
        unsafe { libc::usleep(u32::try_from(lives).unwrap_or(0)) };
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
}

fn vfork_and_touch(pages: usize) {
    const STACK: usize = 64 * 1024;
    let loan = Loan { address: map(pages * PAGE), pages };
    let stack = map(STACK);
    fill(stack, STACK / PAGE);
    // SAFETY: within the mapping, one past its end.
    let top = unsafe { stack.add(STACK) };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack and the loan live until the child has executed, for which CLONE_VFORK waits.
    let child =
        unsafe { libc::clone(touch_and_exec, top.cast(), flags, (&raw const loan).cast_mut().cast()) };
    assert!(child > 0, "clone failed");
    let mut status = 0;
    // SAFETY: `status` is ours.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    unmap(stack, STACK);
}

/// Runs in the parent's address space: no allocation, nothing but the loan is written.
extern "C" fn touch_and_exec(loan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: points to the parent's loan, which waits.
    let loan = unsafe { &*loan.cast::<Loan>() };
    fill(loan.address, loan.pages);
    let program = c"/bin/true";
    let arguments = [program.as_ptr(), ptr::null()];
    // SAFETY: terminated strings and a terminated array of them.
    unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) };
    127
}

fn map_file(bytes: usize) {
    use std::os::fd::AsRawFd as _;
    let Ok(file) = std::fs::File::open("/proc/self/exe") else { return };
    // SAFETY: a fresh mapping of a file that is open.
    unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
}

fn remap(old: usize, new: usize) {
    let address = map(old);
    // SAFETY: a mapping of our own, used by nobody.
    let moved = unsafe { libc::mremap(address.cast(), old, new, libc::MREMAP_MAYMOVE) };
    assert_ne!(moved, libc::MAP_FAILED);
    unmap(moved.cast(), new);
}

fn refused() {
    let odd = ptr::without_provenance_mut::<libc::c_void>(1);
    // SAFETY: an address that is no page's: refused.
    unsafe { libc::munmap(odd, PAGE) };
    // SAFETY: no length: refused.
    unsafe {
        libc::mmap(ptr::null_mut(), 0, libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    // SAFETY: an address that is no page's: refused.
    unsafe { libc::madvise(odd, PAGE, libc::MADV_DONTNEED) };
}
