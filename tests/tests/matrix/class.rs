//! The smallest Java class that waits, written byte by byte: a machine that runs Java need not be able to compile it.

/// `public class Main { public static void main(String[] a) throws Exception { Thread.sleep(Long.MAX_VALUE); } }`, with
/// the number in a constant that nothing uses.
pub fn main(number: u8) -> Vec<u8> {
    let mut class = Vec::new();
    class.extend(0xcafe_babe_u32.to_be_bytes());
    // Format 52: Java 8, the oldest that anybody still runs.
    class.extend([0, 0, 0, 52]);
    // One more than the constants; a long takes two places.
    class.extend([0, 16]);
    let utf8 = |class: &mut Vec<u8>, text: &str| {
        class.push(1);
        class.extend(u16::try_from(text.len()).unwrap_or_default().to_be_bytes());
        class.extend(text.as_bytes());
    };
    utf8(&mut class, "Main"); // 1
    class.extend([7, 0, 1]); // 2: class 1
    utf8(&mut class, "java/lang/Object"); // 3
    class.extend([7, 0, 3]); // 4: class 3
    utf8(&mut class, "main"); // 5
    utf8(&mut class, "([Ljava/lang/String;)V"); // 6
    utf8(&mut class, "Code"); // 7
    utf8(&mut class, "java/lang/Thread"); // 8
    class.extend([7, 0, 8]); // 9: class 8
    utf8(&mut class, "sleep"); // 10
    utf8(&mut class, "(J)V"); // 11
    class.extend([12, 0, 10, 0, 11]); // 12: name 10, type 11
    class.extend([10, 0, 9, 0, 12]); // 13: method 12 of class 9
    class.push(5); // 14 and 15
    class.extend((i64::MAX - i64::from(number)).to_be_bytes());
    // Public and super; this is 2, above it is 4; no interfaces, no fields, one method.
    class.extend([0, 0x21, 0, 2, 0, 4, 0, 0, 0, 0, 0, 1]);
    // Public and static, named 5, of type 6, with one attribute, the code: 7 bytes, and 12 around them.
    class.extend([0, 9, 0, 5, 0, 6, 0, 1, 0, 7, 0, 0, 0, 19]);
    // Two words of stack, one local; ldc2_w 14, invokestatic 13, return; no handlers, no attributes.
    class.extend([0, 2, 0, 1, 0, 0, 0, 7, 0x14, 0, 14, 0xb8, 0, 13, 0xb1, 0, 0, 0, 0]);
    class.extend([0, 0]);
    class
}
